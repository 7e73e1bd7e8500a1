"""What runs inside a SageMaker training container; a local run shares it, so it knows no SDK."""

"""SageMaker's training service on this machine: it is given a request, and knows neither AWS nor who made it."""

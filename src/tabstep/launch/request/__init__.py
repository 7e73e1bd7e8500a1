"""The CreateTrainingJob request: what is asked for, rendered by the SDK, checked, priced."""

"""The control plane: what an FLJob needs on a Kubernetes cluster."""

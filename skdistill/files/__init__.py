"""Students as files: safetensors with a manifest, and ONNX."""

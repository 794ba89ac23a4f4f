"""What runs in a codec worker process: libav, raw frames, and plain blocking code. The engine imports none of it."""

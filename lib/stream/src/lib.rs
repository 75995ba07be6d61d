//! Streaming protocols: SPDY/3.1, WebSocket channels, remote command and port forwarding.

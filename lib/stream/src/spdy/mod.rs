//! SPDY/3.1 sessions over any upgraded connection: what exec, attach and port-forward speak to the kubelet and the CRI
//! runtime, and what older kubectl speaks to the API server.

mod frame;
mod headers;
mod session;
mod stream;
mod window;

pub use headers::Headers;
pub use session::{Config, Role, Session};
pub use stream::Stream;

//! As much of netfilter's netlink protocol as is needed here: connection tracking entries, and news of tables.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use tokio::io::unix::AsyncFd;

const HEADER: usize = 16;
/// `nfgenmsg`: family, version, resource.
const NETFILTER_HEADER: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 0x8000;
/// The kernel fills a dump's buffers up to 32 KiB.
const BUFFER: usize = 64 * 1024;

/// A message's type and its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    /// After the netfilter header.
    pub(crate) attributes: Vec<u8>,
}

/// A socket that talks to netfilter.
pub(crate) struct Netfilter {
    fd: AsyncFd<OwnedFd>,
    sequence: u32,
}

/// What a request asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Dump,
    Do,
}

impl Netfilter {
    /// `groups` is the mask of multicast groups to hear.
    pub(crate) fn open(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        // Deprecated for types that may lie about their descriptor; an OwnedFd does not, and the replacement is unsafe to call.
        #[expect(deprecated, reason = "see above")]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd, sequence: 0 })
    }

    pub(crate) async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let read = ready.try_io(|fd| {
                let mut buffer = vec![0; BUFFER];
                let (_, length) = recv(fd.get_ref(), &mut buffer[..], RecvFlags::empty())?;
                buffer.truncate(length);
                Ok(buffer)
            });
            if let Ok(result) = read {
                return result;
            }
        }
    }

    /// Sends a request and returns what comes back.
    pub(crate) async fn call(&mut self, kind: u16, family: u8, ask: Ask, attributes: &[u8]) -> io::Result<Vec<Message>> {
        self.sequence += 1;
        let flags = NLM_F_REQUEST | if ask == Ask::Dump { NLM_F_DUMP } else { NLM_F_ACK };
        let request = encode(kind, flags, self.sequence, family, attributes);
        send(self.fd.get_ref(), &request, SendFlags::empty())?;
        let mut messages = Vec::new();
        loop {
            let buffer = self.receive().await?;
            for (kind, sequence, body) in split(&buffer) {
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(messages),
                    NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
                        return if code == 0 { Ok(messages) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    kind => messages.extend(message(kind, body)),
                }
            }
        }
    }
}

fn message(kind: u16, body: &[u8]) -> Option<Message> {
    Some(Message { kind, attributes: body.get(NETFILTER_HEADER..)?.to_vec() })
}

/// The messages of a notification.
pub(crate) fn messages(buffer: &[u8]) -> Vec<Message> {
    split(buffer).filter_map(|(kind, _, body)| message(kind, body)).collect()
}

fn encode(kind: u16, flags: u16, sequence: u32, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADER + NETFILTER_HEADER + attributes.len()) as u32;
    let mut out = Vec::with_capacity(length as usize);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend([family, 0, 0, 0]);
    out.extend(attributes);
    out
}

/// (type, sequence, body) of each message; a malformed rest is left out.
fn split(mut buffer: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*buffer.first_chunk()?) as usize;
        if length < HEADER || length > buffer.len() {
            return None;
        }
        let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
        let sequence = u32::from_ne_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]);
        let body = &buffer[HEADER..length];
        buffer = buffer.get(align(length)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The attributes of a body, as (type, value).
pub(crate) fn attributes(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*body.first_chunk()?));
        if length < 4 || length > body.len() {
            return None;
        }
        let kind = u16::from_ne_bytes([body[2], body[3]]) & NLA_TYPE_MASK;
        let value = &body[4..length];
        body = body.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Appends an attribute that holds others.
pub(crate) fn put_nested(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(((4 + value.len()) as u16).to_ne_bytes());
    out.extend((kind | NLA_F_NESTED).to_ne_bytes());
    out.extend(value);
    out.resize(align(out.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_round_trip() {
        let mut attrs = Vec::new();
        put_nested(&mut attrs, 5, b"abc");
        put_nested(&mut attrs, 6, b"");
        let mut buffer = encode(7, 0, 1, 2, &attrs);
        buffer.extend(encode(8, 0, 1, 2, &[]));
        let parsed = messages(&buffer);
        assert_eq!(parsed.iter().map(|m| m.kind).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(attribute(&parsed[0].attributes, 5), Some(&b"abc"[..]));
        assert_eq!(attribute(&parsed[0].attributes, 6), Some(&b""[..]));
        assert_eq!(attribute(&parsed[0].attributes, 7), None);
    }

    #[test]
    fn garbage_ends_quietly() {
        assert!(messages(&[1, 2, 3]).is_empty());
        assert!(messages(&[255; 64]).is_empty());
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}

//! The frames of SPDY/3.1. Control frames are decoded whole; data frames are read piece by piece by the session.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::{Headers, Packer, Unpacker};

const VERSION: u16 = 3;
pub(super) const HEAD_LEN: usize = 8;
/// Bodies of control frames; their header blocks are small.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

pub(super) const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
/// SETTINGS entry: how much a stream may send before it is told to go on.
pub(super) const SETTINGS_INITIAL_WINDOW: u32 = 7;

pub(super) const STATUS_PROTOCOL_ERROR: u32 = 1;
pub(super) const STATUS_REFUSED_STREAM: u32 = 3;
pub(super) const STATUS_CANCEL: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    Settings(Vec<(u32, u32)>),
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Data {
        id: u32,
        fin: bool,
        payload: Bytes,
    },
    /// A control frame of a kind this code does not know; it is skipped.
    Unknown(u16),
}

/// The first eight bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Control { kind: u16, flags: u8, len: usize },
    Data { id: u32, fin: bool, len: usize },
}

impl Head {
    pub(super) fn parse(head: [u8; HEAD_LEN]) -> io::Result<Self> {
        let [a, b, c, d, flags, l0, l1, l2] = head;
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if a & 0x80 == 0 {
            return Ok(Self::Data { id: u32::from_be_bytes([a, b, c, d]), fin: flags & FLAG_FIN != 0, len });
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(invalid("not SPDY/3"));
        }
        if len > CONTROL_BYTES_MAX {
            return Err(invalid("SPDY control frame too large"));
        }
        Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, len })
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads control frames; remembers the state of header compression.
pub(super) struct Decoder {
    unpacker: Unpacker,
}

impl Decoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { unpacker: Unpacker::new()? })
    }

    pub(super) fn control(&mut self, kind: u16, flags: u8, mut body: &[u8]) -> io::Result<Frame> {
        let fin = flags & FLAG_FIN != 0;
        let body = &mut body;
        Ok(match kind {
            1 => {
                let id = id(body)?;
                let _associated = number(body)?;
                let _priority_and_slot = take::<2>(body)?;
                let headers = self.unpacker.unpack(body)?;
                Frame::SynStream { id, fin, unidirectional: flags & FLAG_UNIDIRECTIONAL != 0, headers }
            }
            2 => Frame::SynReply { id: id(body)?, fin, headers: self.unpacker.unpack(body)? },
            3 => Frame::RstStream { id: id(body)?, status: number(body)? },
            4 => {
                let count = number(body)? as usize;
                if count > CONTROL_BYTES_MAX / 8 {
                    return Err(invalid("too many SPDY settings"));
                }
                let entries = (0..count).map(|_| Ok((number(body)? & 0x00ff_ffff, number(body)?)));
                Frame::Settings(entries.collect::<io::Result<_>>()?)
            }
            6 => Frame::Ping(number(body)?),
            7 => Frame::GoAway { last: id(body)?, status: number(body)? },
            8 => Frame::Headers { id: id(body)?, fin, headers: self.unpacker.unpack(body)? },
            9 => Frame::WindowUpdate { id: id(body)?, delta: number(body)? & 0x7fff_ffff },
            other => Frame::Unknown(other),
        })
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> io::Result<[u8; N]> {
    let (head, rest) = body.split_first_chunk::<N>().ok_or_else(|| invalid("short SPDY frame"))?;
    *body = rest;
    Ok(*head)
}

fn number(body: &mut &[u8]) -> io::Result<u32> {
    take(body).map(u32::from_be_bytes)
}

fn id(body: &mut &[u8]) -> io::Result<u32> {
    Ok(number(body)? & 0x7fff_ffff)
}

/// Writes frames; remembers the state of header compression.
pub(super) struct Encoder {
    packer: Packer,
}

impl Encoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { packer: Packer::new()? })
    }

    pub(super) fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> io::Result<()> {
        let mut body = Vec::new();
        let put = |body: &mut Vec<u8>, n: u32| body.extend_from_slice(&n.to_be_bytes());
        let fin_flag = |fin: bool| if fin { FLAG_FIN } else { 0 };
        let (kind, flags) = match frame {
            Frame::SynStream { id, fin, unidirectional, headers } => {
                put(&mut body, *id);
                put(&mut body, 0);
                body.extend_from_slice(&[0, 0]);
                body.extend(self.packer.pack(headers)?);
                (1, fin_flag(*fin) | if *unidirectional { FLAG_UNIDIRECTIONAL } else { 0 })
            }
            Frame::SynReply { id, fin, headers } => {
                put(&mut body, *id);
                body.extend(self.packer.pack(headers)?);
                (2, fin_flag(*fin))
            }
            Frame::RstStream { id, status } => {
                put(&mut body, *id);
                put(&mut body, *status);
                (3, 0)
            }
            Frame::Settings(entries) => {
                put(&mut body, entries.len() as u32);
                for (id, value) in entries {
                    put(&mut body, *id & 0x00ff_ffff);
                    put(&mut body, *value);
                }
                (4, 0)
            }
            Frame::Ping(id) => {
                put(&mut body, *id);
                (6, 0)
            }
            Frame::GoAway { last, status } => {
                put(&mut body, *last);
                put(&mut body, *status);
                (7, 0)
            }
            Frame::Headers { id, fin, headers } => {
                put(&mut body, *id);
                body.extend(self.packer.pack(headers)?);
                (8, fin_flag(*fin))
            }
            Frame::WindowUpdate { id, delta } => {
                put(&mut body, *id);
                put(&mut body, *delta);
                (9, 0)
            }
            Frame::Data { id, fin, payload } => {
                out.put_u32(*id);
                out.put_u32((u32::from(fin_flag(*fin)) << 24) | payload.len() as u32);
                out.extend_from_slice(payload);
                return Ok(());
            }
            Frame::Unknown(_) => return Err(invalid("cannot write an unknown frame")),
        };
        out.put_u16(0x8000 | VERSION);
        out.put_u16(kind);
        out.put_u32((u32::from(flags) << 24) | body.len() as u32);
        out.extend_from_slice(&body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
        let headers: Headers = vec![("streamtype".to_owned(), "data".to_owned())];
        for frame in [
            Frame::SynStream { id: 1, fin: true, unidirectional: false, headers: headers.clone() },
            Frame::SynReply { id: 1, fin: false, headers: Headers::new() },
            Frame::RstStream { id: 3, status: STATUS_CANCEL },
            Frame::Settings(vec![(SETTINGS_INITIAL_WINDOW, 65536)]),
            Frame::Ping(7),
            Frame::GoAway { last: 9, status: 0 },
            Frame::Headers { id: 1, fin: true, headers },
            Frame::WindowUpdate { id: 0, delta: 4096 },
        ] {
            let mut wire = BytesMut::new();
            encoder.encode(&frame, &mut wire).unwrap();
            let head = Head::parse(wire[..HEAD_LEN].try_into().unwrap()).unwrap();
            let Head::Control { kind, flags, len } = head else { panic!("{head:?}") };
            assert_eq!(len, wire.len() - HEAD_LEN);
            assert_eq!(decoder.control(kind, flags, &wire[HEAD_LEN..]).unwrap(), frame);
        }
    }

    #[test]
    fn data_and_bad_heads() {
        let mut wire = BytesMut::new();
        let frame = Frame::Data { id: 5, fin: true, payload: Bytes::from_static(b"xyz") };
        Encoder::new().unwrap().encode(&frame, &mut wire).unwrap();
        assert_eq!(&wire[..], b"\0\0\0\x05\x01\0\0\x03xyz");
        assert_eq!(Head::parse(wire[..8].try_into().unwrap()).unwrap(), Head::Data { id: 5, fin: true, len: 3 });
        assert!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(Head::parse([0x80, 3, 0, 1, 0, 0xff, 0, 0]).is_err());
        assert!(Decoder::new().unwrap().control(3, 0, &[0, 0]).is_err());
        assert_eq!(Decoder::new().unwrap().control(99, 0, &[]).unwrap(), Frame::Unknown(99));
    }
}

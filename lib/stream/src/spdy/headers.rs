//! Header blocks: names and values, compressed with one zlib stream per direction that starts from a fixed dictionary.
//!
//! flate2's portable back-end has no call to set a dictionary. It does not need one: a dictionary is nothing but text
//! that both sides pretend to have seen, so both directions work on raw deflate whose window has been filled with it.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names lower-case, values plain; several values of one name are separated by NUL.
pub type Headers = Vec<(String, String)>;

/// Words of the SPDY/3 dictionary (draft-mbelshe-httpbis-spdy-00, 2.6.10.1), each preceded by its length in four bytes.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows the words, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au\
    thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd\
    en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma\
    y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag\
    e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri\
    vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// Adler-32 of the dictionary.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

/// A header block may unpack to this many bytes, and hold this many fields.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 256;

fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS {
        out.extend_from_slice(&(word.len() as u32).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(TAIL.as_bytes());
    out
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Packs header blocks, in the order in which they are sent.
pub(super) struct Packer {
    deflate: Compress,
    started: bool,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        let mut deflate = Compress::new(Compression::fast(), false);
        // Fills the window; nobody sees the output, since the peer has the dictionary.
        let mut unseen = Vec::with_capacity(4096);
        pack(&mut deflate, &dictionary(), &mut unseen)?;
        Ok(Self { deflate, started: false })
    }

    pub(super) fn pack(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(256);
        plain.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        for (name, value) in headers {
            for text in [&name.to_ascii_lowercase(), value] {
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        if !self.started {
            // zlib's header: deflate with a 32 KiB window, a preset dictionary, and which.
            out.extend_from_slice(&[0x78, 0xbb]);
            out.extend_from_slice(&DICTIONARY_ID.to_be_bytes());
            self.started = true;
        }
        pack(&mut self.deflate, &plain, &mut out)?;
        Ok(out)
    }
}

fn pack(deflate: &mut Compress, mut input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    loop {
        out.reserve(input.len() + 64);
        let (before_in, before_out) = (deflate.total_in(), out.len());
        deflate.compress_vec(input, out, FlushCompress::Sync).map_err(io::Error::other)?;
        input = &input[(deflate.total_in() - before_in) as usize..];
        // Room left over means that all is flushed.
        if input.is_empty() && (out.len() < out.capacity() || out.len() == before_out) {
            return Ok(());
        }
    }
}

/// Unpacks header blocks, in the order in which they came.
pub(super) struct Unpacker {
    inflate: Decompress,
    started: bool,
}

impl Unpacker {
    pub(super) fn new() -> io::Result<Self> {
        let mut inflate = Decompress::new(false);
        let dictionary = dictionary();
        // A stored block that is not the last one.
        let len = dictionary.len() as u16;
        let mut stored = vec![0];
        stored.extend_from_slice(&len.to_le_bytes());
        stored.extend_from_slice(&(!len).to_le_bytes());
        stored.extend_from_slice(&dictionary);
        let mut unseen = Vec::with_capacity(dictionary.len() + 64);
        inflate.decompress_vec(&stored, &mut unseen, FlushDecompress::Sync).map_err(io::Error::other)?;
        if unseen != dictionary {
            return Err(invalid("the SPDY dictionary did not load"));
        }
        Ok(Self { inflate, started: false })
    }

    pub(super) fn unpack(&mut self, mut block: &[u8]) -> io::Result<Headers> {
        if !self.started && !block.is_empty() {
            let &[method, flags, ref rest @ ..] = block else { return Err(invalid("short SPDY header block")) };
            if method & 0x0f != 8 || u16::from_be_bytes([method, flags]) % 31 != 0 {
                return Err(invalid("bad zlib header"));
            }
            block = rest;
            if flags & 0x20 != 0 {
                let Some((id, rest)) = block.split_first_chunk::<4>() else {
                    return Err(invalid("short SPDY header block"));
                };
                if u32::from_be_bytes(*id) != DICTIONARY_ID {
                    return Err(invalid("unknown SPDY dictionary"));
                }
                block = rest;
            }
            self.started = true;
        }
        let mut plain = Vec::with_capacity(block.len() * 4 + 256);
        while !block.is_empty() {
            if plain.len() == plain.capacity() {
                if plain.len() >= BLOCK_BYTES_MAX {
                    return Err(invalid("SPDY header block too large"));
                }
                plain.reserve(plain.len().min(BLOCK_BYTES_MAX - plain.len()));
            }
            let (before_in, before_out) = (self.inflate.total_in(), plain.len());
            let status = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let status = status.map_err(|_| invalid("bad SPDY header block"))?;
            block = &block[(self.inflate.total_in() - before_in) as usize..];
            let moved = self.inflate.total_in() != before_in || plain.len() != before_out;
            if status == Status::StreamEnd || (!moved && plain.len() < plain.capacity()) {
                break;
            }
        }
        parse(&plain)
    }
}

fn parse(mut plain: &[u8]) -> io::Result<Headers> {
    if plain.is_empty() {
        return Ok(Headers::new());
    }
    let count = number(&mut plain)?;
    if count > FIELDS_MAX {
        return Err(invalid("too many SPDY headers"));
    }
    (0..count).map(|_| Ok((text(&mut plain)?, text(&mut plain)?))).collect()
}

fn number(plain: &mut &[u8]) -> io::Result<usize> {
    let (head, rest) = plain.split_first_chunk::<4>().ok_or_else(|| invalid("short SPDY header block"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*head) as usize)
}

fn text(plain: &mut &[u8]) -> io::Result<String> {
    let len = number(plain)?;
    let (head, rest) = plain.split_at_checked(len).ok_or_else(|| invalid("short SPDY header block"))?;
    *plain = rest;
    Ok(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_dictionary_is_the_one() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16) | a, DICTIONARY_ID);
    }

    #[test]
    fn round_trip() {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        for i in 0..50 {
            let h = headers(&[("streamType", "error"), ("port", &i.to_string()), ("requestid", "0"), ("x", &"é".repeat(i))]);
            let packed = packer.pack(&h).unwrap();
            let mut want = h.clone();
            want[0].0 = "streamtype".to_owned();
            assert_eq!(unpacker.unpack(&packed).unwrap(), want);
        }
        assert_eq!(unpacker.unpack(&packer.pack(&Headers::new()).unwrap()).unwrap(), Headers::new());
    }

    /// A block as Go's compress/zlib writes it with this dictionary.
    #[test]
    fn reads_a_plain_zlib_stream() {
        let mut plain = 1u32.to_be_bytes().to_vec();
        for t in ["streamtype", "stdin"] {
            plain.extend_from_slice(&(t.len() as u32).to_be_bytes());
            plain.extend_from_slice(t.as_bytes());
        }
        let mut packed = Vec::with_capacity(256);
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.compress_vec(&plain, &mut packed, FlushCompress::Sync).unwrap();
        assert_eq!(Unpacker::new().unwrap().unpack(&packed).unwrap(), headers(&[("streamtype", "stdin")]));
    }

    #[test]
    fn refuses() {
        let mut packer = Packer::new().unwrap();
        let bomb = packer.pack(&headers(&[("a", &"a".repeat(10_000_000))])).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(Unpacker::new().unwrap().unpack(&bomb).is_err());
        for bad in [&[0x78][..], &[0x78, 0xbc, 0, 0], &[0x78, 0xbb, 1, 2, 3, 4, 0], &[0x78, 0x9c, 0xff, 0xff, 0xff]] {
            assert!(Unpacker::new().unwrap().unpack(bad).is_err(), "{bad:x?}");
        }
        let many: Headers = (0..1000).map(|i| (i.to_string(), String::new())).collect();
        let many = Packer::new().unwrap().pack(&many).unwrap();
        assert!(Unpacker::new().unwrap().unpack(&many).is_err());
    }
}

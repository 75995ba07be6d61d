//! Asks other servers for names that are not the cluster's.
//!
//! *Guarantees:* a question under way is asked once however many clients wait; answers that do not match what was asked are
//! ignored; a question that comes back to us is refused (loop). *Bounds:* questions under way, time per question, cache.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::cache::{Cache, Question};
use crate::resolv_conf::name_servers;

const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES_MAX: usize = 4;
const UNDER_WAY_MAX: usize = 1000;
const PAYLOAD: u16 = 1232;
/// The file is looked at again at most this often.
const RECHECK: Duration = Duration::from_secs(5);
/// A local EDNS option (RFC 6891 sets these numbers aside) that carries our name: who meets it has met itself.
const LOOP_OPTION: u16 = 65_153;

/// Where questions are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    Fixed(Vec<SocketAddr>),
    /// The name servers of a file, as it is now.
    File(PathBuf),
}

#[derive(Debug, thiserror::Error, Clone)]
pub enum ForwardError {
    #[error("there is no name server to ask")]
    NoUpstream,
    #[error("too many questions are under way")]
    Busy,
    #[error("no name server answered")]
    NoAnswer,
}

type Outcome = Result<Message, ForwardError>;

#[derive(Debug, Default)]
struct State {
    cache: Cache,
    under_way: HashMap<Question, watch::Receiver<Option<Outcome>>>,
    servers: Vec<SocketAddr>,
    stamp: Option<SystemTime>,
    checked: Option<Instant>,
}

/// Clones share cache and questions.
#[derive(Clone, Debug)]
pub struct Forwarder {
    upstreams: Upstreams,
    state: Arc<Mutex<State>>,
    random: SystemRandom,
    identity: [u8; 8],
}

impl Forwarder {
    pub fn new(upstreams: Upstreams) -> Self {
        let random = SystemRandom::new();
        let mut identity = [0; 8];
        // Without randomness the loop check alone suffers.
        let _ = random.fill(&mut identity);
        Self { upstreams, state: Arc::default(), random, identity }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn cached(&self) -> usize {
        self.state().cache.len()
    }

    /// The query was sent by this very server.
    pub fn is_own(&self, query: &Message) -> bool {
        let option = query.edns.as_ref().and_then(|e| e.option(EdnsCode::Unknown(LOOP_OPTION)));
        matches!(option, Some(EdnsOption::Unknown(_, bytes)) if *bytes == self.identity)
    }

    /// The answer to a question: kept, or asked for now. `own` are addresses that lead back here.
    pub async fn ask(&self, name: &Name, kind: RecordType, own: &[IpAddr]) -> Outcome {
        let question = (name.to_lowercase(), kind);
        let mut waiting = {
            let mut state = self.state();
            if let Some(message) = state.cache.get(&question, Instant::now()) {
                return Ok(message);
            }
            match state.under_way.get(&question) {
                Some(receiver) => receiver.clone(),
                None if state.under_way.len() >= UNDER_WAY_MAX => return Err(ForwardError::Busy),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    state.under_way.insert(question.clone(), receiver.clone());
                    let servers: Vec<SocketAddr> =
                        self.servers(&mut state).into_iter().filter(|s| !own.contains(&s.ip())).collect();
                    let this = self.clone();
                    tokio::spawn(async move {
                        let outcome = this.ask_all(&question, &servers).await;
                        let mut state = this.state();
                        if let Ok(message) = &outcome {
                            state.cache.put(question.clone(), message, Instant::now());
                        }
                        state.under_way.remove(&question);
                        drop(state);
                        // Nobody waits any more: no harm.
                        let _ = sender.send(Some(outcome));
                    });
                    receiver
                }
            }
        };
        let outcome = match waiting.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or(Err(ForwardError::NoAnswer))
    }

    fn servers(&self, state: &mut State) -> Vec<SocketAddr> {
        match &self.upstreams {
            Upstreams::Fixed(servers) => servers.clone(),
            Upstreams::File(path) => {
                if state.checked.is_none_or(|at| at.elapsed() >= RECHECK) {
                    state.checked = Some(Instant::now());
                    let stamp = std::fs::metadata(path).and_then(|m| m.modified()).ok();
                    if stamp != state.stamp || state.servers.is_empty() {
                        state.stamp = stamp;
                        state.servers = std::fs::read_to_string(path).map(|text| name_servers(&text)).unwrap_or_default();
                    }
                }
                state.servers.clone()
            }
        }
    }

    async fn ask_all(&self, question: &Question, servers: &[SocketAddr]) -> Outcome {
        if servers.is_empty() {
            return Err(ForwardError::NoUpstream);
        }
        let mut refusal = None;
        for server in servers.iter().cycle().take(TRIES_MAX.max(servers.len())) {
            match timeout(TRY_TIMEOUT, self.ask_one(question, *server)).await {
                Ok(Ok(message)) if matches!(message.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused) => {
                    // Another server may know better; if none does, this is the answer.
                    if refusal.replace(message).is_some() && servers.len() == 1 {
                        break;
                    }
                }
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(error)) => tracing::debug!(%server, %error, name = %question.0, "asking"),
                Err(_) => tracing::debug!(%server, name = %question.0, "no answer in time"),
            }
        }
        refusal.ok_or(ForwardError::NoAnswer)
    }

    /// A fresh socket for each question: the kernel picks an unpredictable port, which makes forged answers hard.
    async fn ask_one(&self, question: &Question, server: SocketAddr) -> io::Result<Message> {
        let mut id = [0; 2];
        self.random.fill(&mut id).map_err(|_| io::Error::other("no randomness"))?;
        let query = self.query(question, u16::from_ne_bytes(id));
        let bytes = query.to_vec().map_err(io::Error::other)?;
        let local: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((local, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let Ok(message) = Message::from_vec(&buffer[..length]) else { continue };
            if !answers(&query, &message) {
                continue;
            }
            if message.metadata.truncation {
                return ask_tcp(&query, &bytes, server).await;
            }
            return Ok(message);
        }
    }

    fn query(&self, (name, kind): &Question, id: u16) -> Message {
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), *kind));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        edns.options_mut().insert(EdnsOption::Unknown(LOOP_OPTION, self.identity.to_vec()));
        query.set_edns(edns);
        query
    }
}

/// The message answers this query and no other.
fn answers(query: &Message, message: &Message) -> bool {
    message.metadata.message_type == MessageType::Response
        && message.metadata.id == query.metadata.id
        && message.queries.len() == 1
        && message.queries[0].name() == query.queries[0].name()
        && message.queries[0].query_type() == query.queries[0].query_type()
        && message.queries[0].query_class() == DNSClass::IN
}

async fn ask_tcp(query: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let message = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(query, &message) { Ok(message) } else { Err(io::Error::other("an answer to another question")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(reply: impl Fn(Message) -> Option<Message> + Send + 'static) -> (SocketAddr, Arc<Mutex<usize>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                *count.lock().unwrap() += 1;
                if let Some(message) = reply(Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        (address, asked)
    }

    fn response(query: &Message, code: ResponseCode) -> Message {
        let mut message = Message::response(query.metadata.id, OpCode::Query);
        message.add_query(query.queries[0].clone());
        message.metadata.response_code = code;
        let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A([1, 2, 3, 4].into()));
        message.add_answer(hickory_proto::rr::Record::from_rdata(query.queries[0].name().clone(), 60, data));
        message
    }

    fn name() -> Name {
        Name::from_ascii("Example.com.").unwrap()
    }

    #[tokio::test]
    async fn asked_once_and_kept() {
        let (address, asked) = server(|q| Some(response(&q, ResponseCode::NoError))).await;
        let forwarder = Forwarder::new(Upstreams::Fixed(vec![address]));
        let name = name();
        let (a, b) = tokio::join!(forwarder.ask(&name, RecordType::A, &[]), forwarder.ask(&name, RecordType::A, &[]));
        assert_eq!((a.unwrap().answers.len(), b.unwrap().answers.len()), (1, 1));
        forwarder.ask(&name, RecordType::A, &[]).await.unwrap();
        assert_eq!((*asked.lock().unwrap(), forwarder.cached()), (1, 1));
    }

    #[tokio::test]
    async fn forged_answers_are_ignored_and_the_next_server_asked() {
        let (liar, _) = server(|q| {
            let mut message = response(&q, ResponseCode::NoError);
            message.metadata.id = message.metadata.id.wrapping_add(1);
            Some(message)
        })
        .await;
        let (honest, _) = server(|q| Some(response(&q, ResponseCode::NoError))).await;
        let forwarder = Forwarder::new(Upstreams::Fixed(vec![liar, honest]));
        assert!(forwarder.ask(&name(), RecordType::A, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn own_addresses_and_own_queries_are_known() {
        let forwarder = Forwarder::new(Upstreams::Fixed(vec!["10.96.0.10:53".parse().unwrap()]));
        let outcome = forwarder.ask(&name(), RecordType::A, &["10.96.0.10".parse().unwrap()]).await;
        assert!(matches!(outcome, Err(ForwardError::NoUpstream)));
        let query = forwarder.query(&(name(), RecordType::A), 7);
        let received = Message::from_vec(&query.to_vec().unwrap()).unwrap();
        assert!(forwarder.is_own(&received));
        assert!(!Forwarder::new(Upstreams::Fixed(vec![])).is_own(&received));
    }
}

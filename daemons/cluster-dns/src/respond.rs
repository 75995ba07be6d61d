//! One query in, one response out: the zone's word first, then other servers'.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::forward::Forwarder;
use crate::zone::{Answer, Zone};

/// The largest answer sent in one datagram: what passes any path whole (DNS flag day 2020).
pub const PAYLOAD: u16 = 1232;
/// Aliases of aliases that are followed.
const ALIASES_MAX: usize = 8;

/// What answers come from.
#[derive(Debug)]
pub struct Responder {
    pub zone: RwLock<Zone>,
    pub forwarder: Forwarder,
    /// The zone has been complete at least once.
    pub synced: AtomicBool,
    pub turn: AtomicUsize,
}

/// How a query arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Udp,
    Tcp,
}

impl Responder {
    /// The response to a packet; `None` for what is no query and must not be answered.
    pub async fn respond(&self, packet: &[u8], carrier: Carrier) -> Option<(Vec<u8>, ResponseCode)> {
        // Answering an answer would make two servers talk forever.
        if packet.len() < 12 || packet[2] & 0x80 != 0 {
            return None;
        }
        let id = u16::from_be_bytes([packet[0], packet[1]]);
        let (response, limit) = match Message::from_vec(packet) {
            Err(_) => (Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), 512),
            Ok(query) => {
                let limit = query.edns.as_ref().map_or(512, |e| e.max_payload().clamp(512, PAYLOAD));
                (self.response(&query).await, limit)
            }
        };
        let limit = if carrier == Carrier::Tcp { u16::MAX } else { limit };
        let code = response.metadata.response_code;
        Some((encode(&response, limit)?, code))
    }

    async fn response(&self, query: &Message) -> Message {
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.queries.clone_from(&query.queries);
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            response.set_edns(edns);
        }
        let code = match (query.metadata.op_code, query.queries.as_slice()) {
            _ if query.edns.as_ref().is_some_and(|e| e.version() > 0) => ResponseCode::BADVERS,
            (OpCode::Query, [question]) if question.query_class() == DNSClass::IN => {
                let name = question.name().clone();
                self.answer(query, name, question.query_type(), &mut response).await
            }
            (OpCode::Query, [_]) => ResponseCode::Refused,
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        response.metadata.response_code = code;
        response
    }

    async fn answer(&self, query: &Message, mut name: Name, kind: RecordType, response: &mut Message) -> ResponseCode {
        // Zone transfers would hand out the whole cluster.
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return ResponseCode::Refused;
        }
        for _ in 0..ALIASES_MAX {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let (answer, own) = {
                let zone = self.zone.read().unwrap_or_else(|e| e.into_inner());
                (zone.answer(&name, kind, turn), zone.own_addresses().to_vec())
            };
            if answer == Answer::NotOurs {
                if self.forwarder.is_own(query) {
                    tracing::error!(%name, "a forwarded query came back: a name server of resolv.conf asks this one");
                    return ResponseCode::ServFail;
                }
                return self.forward(&name, kind, &own, response).await;
            }
            // What is not known yet is not known to be missing.
            if !self.synced.load(Ordering::Acquire) {
                return ResponseCode::ServFail;
            }
            response.metadata.authoritative = true;
            match answer {
                Answer::Records { answers, additionals } => {
                    response.add_answers(answers);
                    response.add_additionals(additionals);
                    return ResponseCode::NoError;
                }
                Answer::NoData(soa) => {
                    response.add_authority(*soa);
                    return ResponseCode::NoError;
                }
                Answer::NoName(soa) => {
                    response.add_authority(*soa);
                    return ResponseCode::NXDomain;
                }
                Answer::Alias { cname, target } => {
                    response.add_answer(*cname);
                    if kind == RecordType::CNAME {
                        return ResponseCode::NoError;
                    }
                    name = target;
                }
                Answer::NotOurs => return ResponseCode::ServFail,
            }
        }
        ResponseCode::ServFail
    }

    async fn forward(&self, name: &Name, kind: RecordType, own: &[std::net::IpAddr], response: &mut Message) -> ResponseCode {
        match self.forwarder.ask(name, kind, own).await {
            Ok(answer) => {
                response.add_answers(answer.answers);
                response.add_authorities(answer.authorities);
                answer.metadata.response_code
            }
            Err(error) => {
                tracing::debug!(%name, %error, "forwarding");
                ResponseCode::ServFail
            }
        }
    }
}

/// The message in at most `limit` bytes. Additional records are left out silently; when answers are, the client is told.
fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let limit = usize::from(limit);
    let mut bytes = bytes(message)?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    let mut shorter = message.clone();
    shorter.additionals.clear();
    bytes = self::bytes(&shorter)?;
    while bytes.len() > limit && !shorter.answers.is_empty() {
        let excess = shorter.answers.len() * (bytes.len() - limit) / bytes.len();
        shorter.answers.truncate(shorter.answers.len() - excess.max(1));
        shorter.metadata.truncation = true;
        bytes = self::bytes(&shorter)?;
    }
    Some(bytes)
}

/// The message, or a failure in its place when it cannot be written.
fn bytes(message: &Message) -> Option<Vec<u8>> {
    match message.to_vec() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "encoding a response");
            Message::error_msg(message.metadata.id, OpCode::Query, ResponseCode::ServFail).to_vec().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Upstreams;
    use crate::zone::{Endpoint, ServiceEntry};
    use hickory_proto::op::{MessageType, Query};

    fn responder(endpoints: u8) -> Responder {
        let mut zone = Zone::new(Name::from_ascii("cluster.local.").unwrap(), ("kube-system".into(), "kube-dns".into()));
        zone.set_namespace("d", true);
        let endpoints = (0..endpoints).map(|n| Endpoint { ip: [10, 0, 0, n].into(), label: format!("e{n}"), ports: vec![] });
        let entry = ServiceEntry { endpoints: endpoints.collect(), ..Default::default() };
        zone.set_service(&("d".into(), "s".into()), Some(entry));
        let alias = |to: &str| Some(ServiceEntry { alias: Some(Name::from_ascii(to).unwrap()), ..Default::default() });
        zone.set_service(&("d".into(), "alias".into()), alias("s.d.svc.cluster.local."));
        zone.set_service(&("d".into(), "ring".into()), alias("ring.d.svc.cluster.local."));
        Responder {
            zone: RwLock::new(zone),
            forwarder: Forwarder::new(Upstreams::Fixed(vec![])),
            synced: AtomicBool::new(true),
            turn: AtomicUsize::new(0),
        }
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(42, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    async fn ask(responder: &Responder, query: &Message, carrier: Carrier) -> Message {
        let (bytes, _) = responder.respond(&query.to_vec().unwrap(), carrier).await.unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_negative_answer_carries_the_soa() {
        let answer = ask(&responder(1), &query("nope.d.svc.cluster.local.", RecordType::A), Carrier::Udp).await;
        assert_eq!((answer.metadata.response_code, answer.metadata.authoritative), (ResponseCode::NXDomain, true));
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
        assert_eq!((answer.metadata.id, answer.metadata.recursion_desired), (42, true));
    }

    #[tokio::test]
    async fn large_answers_are_cut_for_udp_and_whole_over_tcp() {
        let responder = responder(200);
        let mut q = query("s.d.svc.cluster.local.", RecordType::A);
        let cut = ask(&responder, &q, Carrier::Udp).await;
        assert!(cut.metadata.truncation && cut.answers.len() < 40);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        q.set_edns(edns);
        let larger = ask(&responder, &q, Carrier::Udp).await;
        assert!(larger.metadata.truncation && larger.answers.len() > 40 && larger.edns.is_some());
        let whole = ask(&responder, &q, Carrier::Tcp).await;
        assert!(!whole.metadata.truncation && whole.answers.len() == 200);
    }

    #[tokio::test]
    async fn aliases_are_followed_but_not_in_circles() {
        let responder = responder(1);
        let answer = ask(&responder, &query("alias.d.svc.cluster.local.", RecordType::A), Carrier::Udp).await;
        assert_eq!(answer.answers.iter().map(|r| r.record_type()).collect::<Vec<_>>(), [RecordType::CNAME, RecordType::A]);
        let answer = ask(&responder, &query("ring.d.svc.cluster.local.", RecordType::A), Carrier::Udp).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }

    #[tokio::test]
    async fn what_is_refused_and_what_is_not_answered() {
        let responder = responder(1);
        let code = async |q: &Message| ask(&responder, q, Carrier::Udp).await.metadata.response_code;
        assert_eq!(code(&query("cluster.local.", RecordType::AXFR)).await, ResponseCode::Refused);
        assert_eq!(code(&query("example.com.", RecordType::A)).await, ResponseCode::ServFail);
        let mut two = query("a.", RecordType::A);
        two.add_query(two.queries[0].clone());
        assert_eq!(code(&two).await, ResponseCode::FormErr);
        let response = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert!(responder.respond(&response, Carrier::Udp).await.is_none());
        assert!(responder.respond(&[0; 5], Carrier::Udp).await.is_none());
        let (garbage, code) = responder.respond(&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 255], Carrier::Udp).await.unwrap();
        assert_eq!((code, garbage[1]), (ResponseCode::FormErr, 7));
    }

    #[tokio::test]
    async fn before_the_first_sync_nothing_is_denied() {
        let responder = responder(1);
        responder.synced.store(false, Ordering::Release);
        let answer = ask(&responder, &query("nope.d.svc.cluster.local.", RecordType::A), Carrier::Udp).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
}

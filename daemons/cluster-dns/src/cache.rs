//! Answers from elsewhere, kept for as long as they say, within bounds. Pure; time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

const ENTRIES_MAX: usize = 10_000;
const TTL_MAX: u32 = 3600;
const NEGATIVE_TTL_MAX: u32 = 300;

/// A question: name in lower case, type.
pub type Question = (Name, RecordType);

#[derive(Debug)]
struct Entry {
    message: Message,
    stored: Instant,
    expires: Instant,
}

/// The nearest to expiry makes room when it is full.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Question, Entry>,
    by_expiry: BTreeSet<(Instant, u64)>,
    order: HashMap<u64, Question>,
    sequence: HashMap<Question, u64>,
    next: u64,
}

/// How long an answer may be kept; `None`: not at all.
fn lifetime(message: &Message) -> Option<Duration> {
    let negative = match message.metadata.response_code {
        ResponseCode::NoError => message.answers.is_empty(),
        ResponseCode::NXDomain => true,
        _ => return None,
    };
    if message.metadata.truncation {
        return None;
    }
    let seconds = if negative {
        // RFC 2308: the lesser of the SOA's own TTL and what it says of negative answers.
        let soa = message.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(soa.minimum.min(r.ttl)),
            _ => None,
        });
        soa?.min(NEGATIVE_TTL_MAX)
    } else {
        message.answers.iter().map(|r| r.ttl).min()?.min(TTL_MAX)
    };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

impl Cache {
    /// The kept answer, with what is left of its TTLs.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let entry = self.entries.get(question).filter(|e| e.expires > now)?;
        let age = now.duration_since(entry.stored).as_secs() as u32;
        let mut message = entry.message.clone();
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(TTL_MAX).saturating_sub(age);
        }
        Some(message)
    }

    pub fn put(&mut self, question: Question, message: &Message, now: Instant) {
        let Some(lifetime) = lifetime(message) else { return };
        self.remove(&question);
        while self.entries.len() >= ENTRIES_MAX {
            let Some(oldest) = self.by_expiry.first().and_then(|(_, n)| self.order.get(n)).cloned() else { break };
            self.remove(&oldest);
        }
        self.next += 1;
        let expires = now + lifetime;
        self.by_expiry.insert((expires, self.next));
        self.order.insert(self.next, question.clone());
        self.sequence.insert(question.clone(), self.next);
        self.entries.insert(question, Entry { message: message.clone(), stored: now, expires });
    }

    fn remove(&mut self, question: &Question) {
        if let (Some(entry), Some(number)) = (self.entries.remove(question), self.sequence.remove(question)) {
            self.by_expiry.remove(&(entry.expires, number));
            self.order.remove(&number);
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn question(n: usize) -> Question {
        (Name::from_ascii(format!("n{n}.example.com.")).unwrap(), RecordType::A)
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.answers.push(Record::from_rdata(question(0).0, ttl, RData::A(A([1, 2, 3, 4].into()))));
        message
    }

    #[tokio::test(start_paused = true)]
    async fn kept_as_long_as_it_says() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(question(0), &answer(10), now);
        let later = now + Duration::from_secs(4);
        assert_eq!(cache.get(&question(0), later).unwrap().answers[0].ttl, 6);
        assert!(cache.get(&question(0), now + Duration::from_secs(10)).is_none());
        cache.put(question(1), &answer(0), now);
        assert!(cache.get(&question(1), now).is_none());
        let mut failure = answer(10);
        failure.metadata.response_code = ResponseCode::ServFail;
        cache.put(question(2), &failure, now);
        assert!(cache.get(&question(2), now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_its_bound() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..ENTRIES_MAX + 10 {
            cache.put(question(n), &answer(10), now);
        }
        assert_eq!(cache.len(), ENTRIES_MAX);
        assert!(cache.get(&question(0), now).is_none() && cache.get(&question(ENTRIES_MAX), now).is_some());
    }
}

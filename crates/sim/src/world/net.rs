//! Links between machines: opened, cut, and what is said on them.
//!
//! A link keeps order and is cut with everything that is under way; its ends may learn of that at
//! different times, and for a while there may be two links between the same machines. What a host
//! does with signatures is done here: writers sign for readers, and of a reader nothing is taken
//! that is not signed (`sync-45`).

use ahoy_logic::sync::{Input, LinkId, Outgoing, Rights};
use ahoy_wire::sync::{Hash, Item, Message, Record, Value, WriteSignature};

use super::{Event, Link, Mail, World};
use crate::Flaw;

impl World {
    /// Everybody meets whom he can, where no tracker is needed for that.
    pub(super) fn connect(&mut self) {
        if self.weather.has_tracker {
            return;
        }
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                let asleep = self.machines[a].engine.is_none() || self.machines[b].engine.is_none();
                if !asleep && !self.are_strangers(a, b) {
                    self.meets(a, b);
                }
            }
        }
    }

    /// Whether two machines cannot reach each other.
    pub(super) fn are_strangers(&self, a: usize, b: usize) -> bool {
        self.weather.row_of_friends && a.abs_diff(b) != 1
    }

    /// Two machines that can meet do so; the one with the smaller number comes first.
    pub(super) fn meets(&mut self, a: usize, b: usize) {
        let is_theirs = |link: &&Link| link.is_up && link.ends == [a, b];
        let links = self.links.iter().filter(is_theirs).count();
        if links == 0 {
            self.link(a, b);
        } else if links == 1 && self.dice_if_wild(self.weather.twin_percent) {
            let old = self.links.iter().position(|link| is_theirs(&link));
            let new = self.link(a, b);
            let given_up = old.filter(|_| self.dice.chance(50)).unwrap_or(new);
            self.soon(500, Event::HangUp { link: given_up });
            self.soon(3000, Event::Connect);
        }
    }

    fn dice_if_wild(&mut self, percent: u64) -> bool {
        percent > 0 && self.dice.chance(percent)
    }

    fn link(&mut self, a: usize, b: usize) -> usize {
        let index = self.links.len();
        let ids = [LinkId(2 * index as u64), LinkId(2 * index as u64 + 1)];
        self.links.push(Link {
            ends: [a, b],
            ids,
            is_up: true,
            open: [true, true],
            last: [self.now, self.now],
        });
        for (machine, other, link) in [(a, b, ids[0]), (b, a, ids[1])] {
            let rights = self.machines[other].rights;
            self.give(machine, Input::Opened { link, rights });
            self.met(machine, other);
        }
        index
    }

    pub(super) fn cut(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].is_up, false) {
            return;
        }
        if !self.weather.is_wild {
            self.close(link, 0);
            self.close(link, 1);
            return;
        }
        let first = self.dice.below(2) as usize;
        self.close(link, first);
        let end = 1 - first;
        self.soon(3000, Event::Close { link, end });
    }

    pub(super) fn close(&mut self, link: usize, end: usize) {
        let was_open = std::mem::replace(&mut self.links[link].open[end], false);
        if was_open || !self.weather.is_wild {
            let (ends, id) = (self.links[link].ends, self.links[link].ids[end]);
            self.give(ends[end], Input::Closed { link: id });
            self.parted(ends[end], ends[1 - end]);
        }
    }

    /// A message arrives.
    pub(super) fn carry(&mut self, link: usize, to: usize, message: Message) {
        let is_deaf = self.flaw == Some(Flaw::Deaf) && self.links[link].ends[to] > 0;
        if !self.links[link].open[to] || is_deaf {
            return;
        }
        let ends = self.links[link].ends;
        let (machine, from) = (ends[to], ends[1 - to]);
        if let Message::Records(records) = &message
            && self.machines[from].rights == Rights::Reader
            && self.flaw != Some(Flaw::GateOpen)
            && !records.items.iter().all(is_signed)
        {
            self.note(machine, "gate", || {
                "a reader sent what no writer signed".into()
            });
            // Nothing that it has sent after that is read any more.
            self.close(link, to);
            self.cut(link);
            self.soon(3000, Event::Connect);
            return;
        }
        let input = Input::Heard {
            link: self.links[link].ids[to],
            message,
        };
        self.give(machine, input);
    }

    pub(super) fn item(&mut self, machine: usize, outgoing: Outgoing) -> Item {
        let content = outgoing
            .attach
            .and_then(|path| self.machines[machine].disk.content_at(&path))
            .map(|content| content.bytes().into());
        let mut item = Item {
            record: outgoing.record,
            signature: outgoing.signature,
            content,
        };
        if self.machines[machine].rights == Rights::Reader {
            if self.weather.reader_cheats && self.dice.chance(20) {
                forge(&mut item);
            }
        } else if self.weather.has_reader {
            item.signature = Some(sign(&item.record));
        }
        item
    }

    pub(super) fn say(&mut self, link: LinkId, message: Message) {
        let Some(index) = self.links.iter().position(|l| l.ids.contains(&link)) else {
            return;
        };
        if !self.links[index].is_up {
            return;
        }
        let to = usize::from(self.links[index].ids[0] == link);
        let arrives = self.now + 1 + self.dice.below(80);
        let when = arrives.max(self.links[index].last[to]);
        self.links[index].last[to] = when;
        let link = index;
        self.at(when, Event::Carry { link, to, message });
    }

    /// The answer to something, a little later.
    pub(super) fn answer(&mut self, machine: usize, most: u64, input: Input) {
        self.soon_at(machine, most, Mail::Give(Box::new(input)));
    }
}

/// Stands for an Ed25519 signature: nobody but the writers' hosts makes one.
fn sign(record: &Record) -> WriteSignature {
    let mut hasher = blake3::Hasher::new_derive_key("ahoy sim: a writer's signature");
    hasher.update(format!("{record:?}").as_bytes());
    let hash = *hasher.finalize().as_bytes();
    WriteSignature(hash, hash)
}

fn is_signed(item: &Item) -> bool {
    item.signature == Some(sign(&item.record))
}

/// A reader claims another content, as if the author had made it so.
fn forge(item: &mut Item) {
    let dot = item.record.body.dot;
    let body = &mut item.record.body;
    body.dot.count = dot.count + 1;
    body.clock.add(body.dot);
    if let Value::File { hash, .. } = &mut body.value {
        *hash = Hash([7; 32]);
    }
}

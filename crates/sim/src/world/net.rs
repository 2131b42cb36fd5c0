//! Links between machines: opened, cut, and what is said on them.

use super::*;

impl World {
    pub(super) fn connect(&mut self) {
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                let strangers = self.weather.row_of_friends && b != a + 1;
                let linked = self.links.iter().any(|l| l.is_up && l.ends == [a, b]);
                let asleep = self.machines[a].engine.is_none() || self.machines[b].engine.is_none();
                if strangers || linked || asleep {
                    continue;
                }
                let number = self.links.len() as u64;
                let ids = [LinkId(2 * number), LinkId(2 * number + 1)];
                let last = [self.now, self.now];
                self.links.push(Link {
                    ends: [a, b],
                    ids,
                    is_up: true,
                    last,
                });
                for (machine, link) in [(a, ids[0]), (b, ids[1])] {
                    let run = self.machines[machine].run;
                    let input = Input::Opened {
                        link,
                        rights: Rights::Writer,
                    };
                    self.happen(Event::Give {
                        machine,
                        run,
                        input,
                    });
                }
            }
        }
    }

    pub(super) fn cut(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].is_up, false) {
            return;
        }
        for end in 0..2 {
            let (machine, id) = (self.links[link].ends[end], self.links[link].ids[end]);
            let run = self.machines[machine].run;
            self.happen(Event::Give {
                machine,
                run,
                input: Input::Closed { link: id },
            });
        }
    }

    pub(super) fn item(&mut self, machine: usize, outgoing: ahoy_logic::sync::Outgoing) -> Item {
        let content = outgoing.attach.and_then(|path| {
            let found = self.machines[machine].disk.tree().remove(&path)?;
            match found.0 {
                Kind::File(content) => Some(content.bytes().into()),
                Kind::Dir(_) | Kind::Link(_) => None,
            }
        });
        Item {
            record: outgoing.record,
            signature: outgoing.signature,
            content,
        }
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
        self.at(
            when,
            Event::Carry {
                link: index,
                to,
                message,
            },
        );
    }
}

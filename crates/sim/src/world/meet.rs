//! Machines find each other as on the host: each has an announcer, which learns from a tracker who
//! else is there, and a meeting, which decides whom to dial where and when. Both are the machines
//! of `logic`. Imagined are the places where machines listen, which change, are taken over by
//! others, and are remembered wrongly.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use ahoy_logic::sync::meet::{self, Dial, Meet, Outcome, Source};
use ahoy_logic::tracker::{self, Announcer, AnnouncerOptions, Reserve, Start};
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{HoldingSummary, PeerAddress, Ttl};

use super::tracker::{SHARE, sign, verify};
use super::{Event, Mail, World, wake_at, wall};
use crate::story::Failure;
use crate::weather::Millis;

/// Longest that a dial takes.
const DIAL_MAX: Millis = 200;

/// How one process finds others.
pub(super) struct Finder {
    announcer: Announcer,
    meet: Meet,
    /// Its connection to the tracker.
    pub(super) line: Option<usize>,
    /// When it is woken.
    due: Option<Millis>,
}

/// What a machine keeps of places from one run of its process to the next.
#[derive(Default)]
pub(super) struct Places {
    /// Where it listens, or has listened last.
    own: Option<SocketAddr>,
    of_others: BTreeMap<PeerId, PeerAddress>,
    announced: Reserve,
}

/// The number under which others know a machine.
fn id_of(machine: usize) -> PeerId {
    PeerId::new([machine as u8 + 1; 32])
}

/// Where the tracker sees a machine's connection come from: what the router in front of it makes of
/// its address, and nobody can dial.
pub(super) fn seen_at(machine: usize, line: usize) -> SocketAddr {
    let port = 32_768 + (line % 20_000) as u16;
    (Ipv4Addr::new(192, 0, 2, machine as u8 + 1), port).into()
}

impl World {
    /// A process begins to look for others.
    pub(super) fn begin_to_find(&mut self, machine: usize) {
        let place = self.place(machine);
        let it = &mut self.machines[machine];
        it.places.own = Some(place);
        let clock_ms = wall(self.now, it.skew).unsigned_abs();
        let sequence_floor = it.places.announced.floor(clock_ms);
        let _ = it.places.announced.use_up(sequence_floor);
        let me = id_of(machine);
        let options = AnnouncerOptions {
            ttl: Ttl::from_seconds(self.weather.tracker_timeout_s).expect("at most an hour"),
            ..AnnouncerOptions::default()
        };
        let start = Start {
            share: SHARE,
            me,
            addresses: vec![place],
            holding: HoldingSummary::default(),
            sequence_floor,
            seed: self.seed ^ it.run,
            signer: Box::new(move |bytes| sign(&me, bytes)),
            verifier: verify,
        };
        let remembered = it.places.of_others.clone();
        let announcer = Announcer::new(options, self.moment(), start);
        self.machines[machine].finder = Some(Finder {
            announcer,
            meet: Meet::new(me),
            line: None,
            due: None,
        });
        self.note(machine, "listens", || format!("at {place}"));
        self.announce(machine, tracker::Input::Due);
        for (peer, address) in remembered {
            self.learn(machine, peer, address, Source::Remembered);
        }
    }

    /// Where a machine listens from now on: where it did, where another one did, or somewhere new.
    fn place(&mut self, machine: usize) -> SocketAddr {
        let taken: Vec<SocketAddr> = self.listeners().map(|(_, place)| place).collect();
        let is_free = |place: &SocketAddr| !taken.contains(place);
        let of_all = self.machines.iter().filter_map(|it| it.places.own);
        let free: Vec<SocketAddr> = of_all.filter(is_free).collect();
        let own = self.machines[machine].places.own.filter(is_free);
        let chosen = match self.dice.below(10) {
            0..5 => own,
            5..7 => self.dice.pick(&free),
            _ => None,
        };
        chosen.unwrap_or_else(|| {
            let [_, a, b, c] = (self.serial as u32).to_be_bytes();
            (Ipv4Addr::new(10, a, b, c), 7447).into()
        })
    }

    /// The machines that can be dialed, and where.
    fn listeners(&self) -> impl Iterator<Item = (usize, SocketAddr)> + '_ {
        let places = self.machines.iter().map(|it| {
            let finder = it.finder.as_ref();
            finder.and(it.places.own)
        });
        let places = places.enumerate();
        places.filter_map(|(machine, place)| Some((machine, place?)))
    }

    /// A process looks for nobody any more.
    pub(super) fn end_finding(&mut self, machine: usize) {
        let line = self.machines[machine].finder.take().and_then(|it| it.line);
        if let Some(line) = line {
            // Without power nobody says goodbye.
            let is_silent = self.dice.chance(50);
            self.leave_tracker(line, is_silent);
        }
    }

    /// A machine is moved into another network: nothing of what was open goes on.
    pub(super) fn roam(&mut self, machine: usize) {
        if self.machines[machine].finder.is_none() {
            return;
        }
        let place = self.place(machine);
        self.note(machine, "listens", || format!("at {place} now"));
        self.machines[machine].places.own = Some(place);
        self.break_line(machine);
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&machine) {
                self.cut(link);
            }
        }
        self.announce(machine, tracker::Input::Addresses(vec![place]));
    }

    /// An input for a machine's announcer.
    pub(super) fn announce(&mut self, machine: usize, input: tracker::Input<'_>) {
        let now = self.moment();
        let Some(finder) = self.machines[machine].finder.as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        finder.announcer.handle(now, input, &mut effects);
        for effect in effects {
            match effect {
                tracker::Effect::Connect { attempt } => {
                    self.soon_at(machine, 80, Mail::Connects { attempt });
                }
                tracker::Effect::Send(bytes) => self.say_to_tracker(machine, bytes),
                tracker::Effect::Disconnect => {
                    let finder = self.machines[machine].finder.as_mut();
                    if let Some(line) = finder.and_then(|finder| finder.line.take()) {
                        self.leave_tracker(line, false);
                    }
                }
                tracker::Effect::Event(event) => self.told(machine, event),
            }
        }
        self.wake_finder(machine);
    }

    fn told(&mut self, machine: usize, event: tracker::Event) {
        self.note(machine, "tracker", || format!("{event:?}"));
        if let tracker::Event::PeerSeen(sighting) = event {
            let addresses = sighting.addresses.into_iter().filter_map(PeerAddress::new);
            for address in addresses {
                self.learn(machine, sighting.peer, address, Source::Tracker);
            }
        }
    }

    fn learn(&mut self, machine: usize, peer: PeerId, address: PeerAddress, source: Source) {
        let peer = Some(peer);
        self.meeting(
            machine,
            meet::Input::Learned {
                peer,
                address,
                source,
            },
        );
    }

    /// An input for a machine's meeting.
    fn meeting(&mut self, machine: usize, input: meet::Input) {
        let now = self.moment();
        let Some(finder) = self.machines[machine].finder.as_mut() else {
            return;
        };
        let mut dials = Vec::new();
        finder.meet.step(now, input, &mut dials);
        for dial in dials {
            self.soon_at(machine, DIAL_MAX, Mail::Dials(dial));
        }
        self.wake_finder(machine);
    }

    fn wake_finder(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let Some(finder) = it.finder.as_mut() else {
            return;
        };
        let deadline = finder.announcer.deadline().map(|deadline| deadline.at);
        let deadlines = [deadline, finder.meet.deadline()];
        let Some(moment) = deadlines.into_iter().flatten().min() else {
            return;
        };
        let due = wake_at(self.now, moment);
        if finder.due.is_none_or(|at| due < at) {
            finder.due = Some(due);
            let (run, mail) = (it.run, Mail::Find);
            self.at(due, Event::At { machine, run, mail });
        }
    }

    /// Time has passed for a machine's announcer and its meeting.
    pub(super) fn find(&mut self, machine: usize) {
        if let Some(finder) = self.machines[machine].finder.as_mut() {
            finder.due = None;
        }
        self.announce(machine, tracker::Input::Due);
        self.meeting(machine, meet::Input::Tick);
    }

    /// A dial comes to its end.
    pub(super) fn dial(&mut self, machine: usize, dial: Dial) {
        let outcome = self.outcome(machine, &dial);
        self.note(machine, "dials", || {
            format!("{}: {outcome:?}", dial.address.socket_addr())
        });
        self.meeting(machine, meet::Input::Dialed { dial, outcome });
    }

    fn outcome(&mut self, machine: usize, dial: &Dial) -> Outcome {
        let place = dial.address.socket_addr();
        let there = self.listeners().find(|(_, it)| *it == place);
        match there.map(|(machine, _)| machine) {
            None => Outcome::Unreachable,
            Some(other) if other == machine => Outcome::Myself,
            Some(other) if self.are_strangers(machine, other) => Outcome::Unreachable,
            Some(other) if dial.peer.is_some_and(|peer| peer != id_of(other)) => {
                Outcome::SomebodyElse
            }
            Some(other) => {
                self.dialed(machine, other);
                Outcome::Met(id_of(other))
            }
        }
    }

    /// A session is opened, unless the one who dials has one already.
    fn dialed(&mut self, machine: usize, other: usize) {
        if self.is_linked(machine, other) {
            return;
        }
        // The other one may not have heard yet that an older session is over.
        for link in 0..self.links.len() {
            let ends = self.links[link].ends;
            if ends.contains(&machine)
                && let Some(end) = ends.iter().position(|it| *it == other)
            {
                self.close(link, end);
            }
        }
        self.meets(machine.min(other), machine.max(other));
    }

    /// Both ends of a new session learn where the other one listens.
    pub(super) fn met(&mut self, machine: usize, other: usize) {
        let peer = id_of(other);
        self.meeting(machine, meet::Input::Connected { peer });
        let place = self.machines[other].places.own.and_then(PeerAddress::new);
        if let Some(address) = place {
            let places = &mut self.machines[machine].places;
            places.of_others.insert(peer, address);
            self.learn(machine, peer, address, Source::Session);
        }
    }

    /// One end learns that a session is over.
    pub(super) fn parted(&mut self, machine: usize, other: usize) {
        if !self.is_linked(machine, other) {
            let peer = id_of(other);
            self.meeting(machine, meet::Input::Disconnected { peer });
        }
    }

    /// Whether a machine believes that it has a session with the other one.
    fn is_linked(&self, machine: usize, other: usize) -> bool {
        let is_open = |link: &super::Link| {
            let end = link.ends.iter().position(|it| *it == machine);
            link.ends.contains(&other) && end.is_some_and(|end| link.open[end])
        };
        self.links.iter().any(is_open)
    }

    /// After a long peace everybody knows, from the tracker, where everybody else is that lives,
    /// and that is all that it knows.
    pub(super) fn judge_finders(&self) -> Result<(), Box<Failure>> {
        if !self.weather.has_tracker {
            return Ok(());
        }
        let living: Vec<(usize, SocketAddr)> = self.listeners().collect();
        let known = self.tracker.announcements();
        if known != Some(living.len()) {
            let living = living.len();
            return Err(self.fault(&format!(
                "{living} machines live, the tracker has {known:?}"
            )));
        }
        for (index, _) in &living {
            let finder = self.machines[*index].finder.as_ref();
            let seen = finder.map_or(Vec::new(), |finder| finder.announcer.status().peers);
            let is_seen = |(other, place): &(usize, SocketAddr)| {
                let mut fitting = seen.iter().filter(|it| it.peer == id_of(*other));
                other == index || fitting.any(|it| it.addresses.contains(place))
            };
            if seen.len() + 1 != living.len() || !living.iter().all(is_seen) {
                return Err(self.fault(&format!("the tracker told {index} of {seen:?}")));
            }
        }
        Ok(())
    }

    /// A machine that stays away for good is forgotten.
    pub(super) fn judge_the_dead(&mut self) -> Result<(), Box<Failure>> {
        if !self.weather.has_tracker {
            return Ok(());
        }
        let machine = self.any_machine();
        self.crash(machine);
        let patience = 2 * 1000 * Millis::from(self.weather.tracker_timeout_s);
        self.pass_until(self.now + patience)?;
        self.judge_finders()
    }
}

//! Cedar's word and that of a plain reference, on random roles, rules and questions: they must agree in every one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::*;
use crate::identity::discovery::Network;
use crate::registry::{Counts, Watch, Window};

/// Questions to each tenant.
const EACH: usize = 250;

/// A role as the reference reads it.
struct Plain {
    name: &'static str,
    models: Option<Vec<&'static str>>,
    endpoints: Option<Vec<EndpointKind>>,
}

struct Question {
    roles: Vec<&'static str>,
    endpoint: EndpointKind,
    model: Option<&'static str>,
    source: Option<IpAddr>,
    now: Timestamp,
    login: Login,
    over: Vec<SpendBound>,
    known_since: Option<i64>,
}

#[derive(Debug, PartialEq)]
enum Word {
    Permitted,
    Rule(String),
    Nothing,
}

#[test]
fn cedar_and_a_plain_reference_agree() {
    let tenants = if std::env::var_os("BULKHEAD_FULL").is_some() { 4_000 } else { 200 };
    let (mut dice, mut met) = (Dice(3), BTreeMap::<&str, u32>::new());
    let mut shared = SharedPolicies::default();
    for _ in 0..tenants {
        let roles = [
            Plain { name: MEMBER, models: None, endpoints: None },
            Plain { name: "developer", models: dice.some_models(), endpoints: dice.some_endpoints() },
            Plain { name: "reader", models: dice.some_models(), endpoints: dice.some_endpoints() },
        ];
        let rules: Vec<Rule> = (0..dice.below(11)).map(|number| dice.rule(number)).collect();
        let zone = TimeZone::get(dice.one(&["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"])).unwrap();
        let compiled: Vec<_> =
            roles.iter().map(|plain| role(plain.name, plain.models.as_deref(), plain.endpoints.as_deref())).collect();
        let compiled: Vec<_> = compiled.iter().collect();
        let tenant = TenantName::parse("acme").unwrap();
        let cedar = Rules::compile(&tenant, models()[..3].iter(), &compiled, rules.clone(), &mut shared).unwrap();
        for _ in 0..EACH {
            let asked = dice.question();
            let (source, now, login, known_since) = (asked.source, asked.now, &asked.login, asked.known_since);
            let over: Vec<&SpendBound> = asked.over.iter().collect();
            let circumstances =
                Circumstances::new(&Found { source, now, zone: &zone, login, over: &over, known_since });
            let questions = cedar.questions(&super::roles(&asked.roles), circumstances);
            let model = asked.model.map(named);
            let (verdict, resource) = match &model {
                None => (questions.endpoint(asked.endpoint), Resource::Endpoint),
                Some(model) => (questions.model(asked.endpoint, model), Resource::Model(model)),
            };
            assert_eq!(verdict, questions.whole(asked.endpoint, resource), "a slice is not the whole: {rules:?}");
            let word = match verdict {
                Verdict::Allow(by) => {
                    assert!(
                        super::super::named(&super::roles(&asked.roles)).any(|role| by == format!("role/{role}")),
                        "{by}"
                    );
                    Word::Permitted
                }
                Verdict::Rule(rule) => Word::Rule(rule.name.clone()),
                Verdict::Nothing => Word::Nothing,
            };
            let plain = reference(&roles, &rules, &zone, &asked);
            assert_eq!(word, plain, "{rules:#?}\n{:?} {:?} {:?}", asked.roles, asked.endpoint, asked.model);
            let kind = match &plain {
                Word::Permitted => "permitted",
                Word::Nothing => "nothing",
                Word::Rule(name) => rules.iter().find(|rule| rule.name == *name).unwrap().then.word(),
            };
            *met.entry(kind).or_default() += 1;
        }
    }
    for kind in ["permitted", "nothing", "stepUp", "restrict", "deny"] {
        assert!(met.get(kind).is_some_and(|times| *times > 1_000), "{kind} is hardly met: {met:?}");
    }
}

/// The same, said without Cedar.
fn reference(roles: &[Plain], rules: &[Rule], zone: &TimeZone, asked: &Question) -> Word {
    let known = ["big", "mid", "small"];
    if asked.model.is_some_and(|model| !known.contains(&model)) {
        return Word::Nothing;
    }
    let names = if asked.roles.is_empty() { vec![MEMBER] } else { asked.roles.clone() };
    let find = |name: &&str| roles.iter().find(|role| role.name == *name);
    let Some(own) = names.iter().map(find).collect::<Option<Vec<&Plain>>>() else { return Word::Nothing };
    let mut strictest: Option<(u8, &str)> = None;
    for rule in rules.iter().filter(|rule| applies(rule, &names, zone, asked)) {
        let rank = match rule.then {
            Outcome::StepUp { .. } => 1,
            Outcome::Restrict { .. } => 2,
            Outcome::Deny => 3,
        };
        let stricter =
            strictest.is_none_or(|(other, name)| rank > other || (rank == other && rule.name.as_str() < name));
        if stricter {
            strictest = Some((rank, &rule.name));
        }
    }
    if let Some((_, name)) = strictest {
        return Word::Rule(name.to_owned());
    }
    let permits = |role: &&Plain| {
        let model = match (asked.model, &role.models) {
            (Some(model), Some(models)) => models.contains(&model),
            _ => true,
        };
        model && role.endpoints.as_ref().is_none_or(|kinds| kinds.contains(&asked.endpoint))
    };
    if own.iter().any(permits) { Word::Permitted } else { Word::Nothing }
}

fn applies(rule: &Rule, names: &[&str], zone: &TimeZone, asked: &Question) -> bool {
    let model = asked.model.map(named);
    let class = asked.model.and_then(|model| MODELS.iter().find(|(name, _)| *name == model)).map(|(_, class)| *class);
    let about = rule.roles.as_ref().is_none_or(|roles| names.iter().any(|name| roles.contains(*name)))
        && rule.endpoints.as_ref().is_none_or(|kinds| kinds.contains(&asked.endpoint))
        && rule.models.as_ref().is_none_or(|models| model.as_ref().is_some_and(|model| models.contains(model)))
        && rule.gpu_classes.as_ref().is_none_or(|classes| class.is_some_and(|class| classes.contains(class)));
    let local = asked.now.to_zoned(zone.clone());
    let minute = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
    let span = |from: u16, to: u16| {
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    };
    let within = |networks: &[Network], source: IpAddr| networks.iter().any(|network| network.holds(source));
    let holds = rule.when.iter().all(|condition| match condition {
        Condition::SourceIn(networks) => asked.source.is_none_or(|source| within(networks, source)),
        Condition::SourceOutside(networks) => asked.source.is_none_or(|source| !within(networks, source)),
        Condition::HoursIn { from, to } => span(*from, *to),
        Condition::HoursOutside { from, to } => !span(*from, *to),
        Condition::Days(days) => days.contains(&u8::try_from(local.weekday().to_monday_one_offset()).unwrap()),
        Condition::SpendOver(bound) => asked.over.contains(bound),
        Condition::NetworkNewFor(span) => {
            asked.known_since.is_none_or(|since| u64::try_from(asked.now.as_second() - since).unwrap() < span.as_secs())
        }
    });
    let open = match &rule.then {
        Outcome::Deny => false,
        Outcome::Restrict { to } => model.is_none_or(|model| to.contains(&model)),
        Outcome::StepUp { acr, amr, max_age } => {
            let age = asked.login.at.map(|at| asked.now.as_second() - at);
            (acr.is_empty() || asked.login.class.as_ref().is_some_and(|class| acr.contains(class)))
                && (amr.is_empty() || asked.login.methods.iter().any(|method| amr.contains(method)))
                && max_age.is_none_or(|most| age.is_some_and(|age| age <= i64::try_from(most.as_secs()).unwrap()))
        }
    };
    about && holds && !open
}

/// Splitmix64: the same in every run.
struct Dice(u64);

const NAMES: [&str; 3] = ["big", "mid", "small"];
const KINDS: [EndpointKind; EndpointKind::ALL.len()] = EndpointKind::ALL;
const NETWORKS: [&str; 12] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "192.0.2.128/25",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8:0:1::/64",
    "2001:db8::8000:0:0:0/65",
    "2001:db8::1/128",
    "::/0",
    "::/1",
    "::/80",
];
const SOURCES: [&str; 12] = [
    "10.0.0.1",
    "10.1.2.3",
    "10.1.2.4",
    "192.0.2.127",
    "192.0.2.128",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::8000:0:0:1",
    "2001:db8:0:1:ffff::",
    "::ffff:10.1.0.9",
    "::1",
    "fe80::1",
];

fn bound(amount: u64) -> SpendBound {
    let watch = Watch { counts: Counts::MicroUsd, each_principal: amount == 1, window: Window::Hour };
    SpendBound { watch, amount }
}

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// At least one of them.
    fn some<T: Copy>(&mut self, of: &[T]) -> Vec<T> {
        let first = self.one(of);
        let mut some: Vec<T> = of.iter().copied().filter(|_| self.once_in(3)).collect();
        some.push(first);
        some
    }

    fn some_models(&mut self) -> Option<Vec<&'static str>> {
        match self.below(6) {
            0 => Some(Vec::new()),
            1..=3 => Some(self.some(&NAMES)),
            _ => None,
        }
    }

    fn some_endpoints(&mut self) -> Option<Vec<EndpointKind>> {
        match self.below(6) {
            0 => Some(Vec::new()),
            1 => Some(self.some(&KINDS)),
            _ => None,
        }
    }

    fn texts(&mut self, of: &[&str]) -> BTreeSet<String> {
        self.some(of).into_iter().map(str::to_owned).collect()
    }

    fn rule(&mut self, number: usize) -> Rule {
        let then = match self.below(4) {
            0 => Outcome::Deny,
            1 => Outcome::Restrict { to: self.some(&NAMES).into_iter().map(named).collect() },
            _ => self.step_up(),
        };
        let conditions = 1 + self.below(3);
        Rule {
            name: format!("p{}/r{number}", self.below(3)),
            roles: self.once_in(2).then(|| self.texts(&[MEMBER, "developer", "reader"])),
            endpoints: self.once_in(4).then(|| self.some(&KINDS).into_iter().collect()),
            models: self.once_in(4).then(|| self.some(&NAMES).into_iter().map(named).collect()),
            gpu_classes: self.once_in(4).then(|| self.texts(&["h100", "l4"])),
            when: (0..conditions).map(|_| self.condition()).collect(),
            then,
        }
    }

    fn step_up(&mut self) -> Outcome {
        let acr = if self.once_in(2) { self.texts(&["low", "high"]) } else { BTreeSet::new() };
        let amr = if acr.is_empty() || self.once_in(2) { self.texts(&["hwk", "face", "fpt"]) } else { BTreeSet::new() };
        let max_age = self.once_in(2).then(|| Duration::from_secs(self.one(&[60, 900])));
        Outcome::StepUp { acr, amr, max_age }
    }

    fn condition(&mut self) -> Condition {
        let networks = |dice: &mut Self| dice.some(&NETWORKS).iter().map(|text| text.parse().unwrap()).collect();
        let (from, to) = (self.one(&[0, 90, 480, 1320]), self.one(&[60, 360, 1080, 1440]));
        match self.below(7) {
            5 => Condition::SpendOver(if self.once_in(2) { bound(1) } else { bound(2) }),
            6 => Condition::NetworkNewFor(Duration::from_secs(self.one(&[60, 86_400]))),
            0 => Condition::SourceIn(networks(self)),
            1 => Condition::SourceOutside(networks(self)),
            2 => Condition::HoursIn { from, to },
            3 => Condition::HoursOutside { from, to },
            _ => Condition::Days(self.some(&[1, 2, 3, 4, 5, 6, 7]).into_iter().collect()),
        }
    }

    fn question(&mut self) -> Question {
        let seconds = i64::try_from(self.below(14 * 86_400)).unwrap();
        let now = NOON.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        let age = self.one(&[0, 59, 60, 61, 899, 900, 901, 86_400]);
        Question {
            roles: match self.below(12) {
                0 => Vec::new(),
                1 => vec!["nobody"],
                2 => vec!["developer", "nobody"],
                3 | 4 => vec!["developer", "reader"],
                5 => vec![MEMBER, "reader"],
                6 => vec![MEMBER],
                _ => vec![self.one(&["developer", "reader"])],
            },
            endpoint: self.one(&KINDS),
            model: self.one(&[None, Some("big"), Some("mid"), Some("small"), Some("other/own")]),
            source: (!self.once_in(6)).then(|| self.one(&SOURCES).parse().unwrap()),
            now,
            login: Login {
                class: self.one(&[None, Some("low"), Some("high")]).map(str::to_owned),
                methods: if self.once_in(3) {
                    Vec::new()
                } else {
                    self.some(&["pwd", "hwk", "face"]).into_iter().map(str::to_owned).collect()
                },
                at: (!self.once_in(4)).then(|| now.as_second() - age),
            },
            over: [1, 2].into_iter().filter(|_| self.once_in(2)).map(bound).collect(),
            known_since: (!self.once_in(3)).then(|| now.as_second() - self.one(&[0, 59, 60, 86_399, 86_400])),
        }
    }
}

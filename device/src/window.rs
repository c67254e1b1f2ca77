//! Readings sent but not yet acknowledged. Pure bookkeeping: no connection, no clock.
//!
//! The MQTT library returns no packet id from a publish. But it writes publishes in the order they were handed to it and
//! reports each written packet's id in that order, so the oldest handed-over reading without an id owns the next one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

pub(crate) struct Window {
    size: usize,
    span: u64,
    /// By sequence number, so that repeats go out in the order of the file.
    unacknowledged: BTreeMap<u64, Entry>,
    /// Not yet handed to the present connection.
    to_send: VecDeque<u64>,
    /// Handed over, packet id not yet known.
    without_packet_id: VecDeque<u64>,
    by_packet_id: HashMap<u16, u64>,
}

struct Entry {
    payload: Vec<u8>,
    /// When it was handed to the present connection.
    sent_at: Option<Instant>,
    /// True once any connection has written it, so that the broker may have it.
    written: bool,
}

/// A reading to hand to the connection.
pub(crate) struct Send {
    pub(crate) payload: Vec<u8>,
    /// The broker may have it already.
    pub(crate) is_repeat: bool,
}

impl Window {
    /// `size` readings at most are unacknowledged, and the newest is at most `span` readings younger than the oldest: the
    /// library hands out packet ids in turn and stalls if it meets one that is still taken.
    pub(crate) fn new(size: u16, span: u16) -> Self {
        Self {
            size: usize::from(size),
            span: u64::from(span),
            unacknowledged: BTreeMap::new(),
            to_send: VecDeque::new(),
            without_packet_id: VecDeque::new(),
            by_packet_id: HashMap::new(),
        }
    }

    pub(crate) fn has_room(&self, next_seq: u64) -> bool {
        let oldest = self.unacknowledged.first_key_value().map_or(next_seq, |(seq, _)| *seq);
        self.unacknowledged.len() < self.size && next_seq - oldest < self.span
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    pub(crate) fn push(&mut self, seq: u64, payload: Vec<u8>) {
        self.unacknowledged.insert(seq, Entry { payload, sent_at: None, written: false });
        self.to_send.push_back(seq);
    }

    /// The next reading for the present connection, noted as handed over.
    pub(crate) fn next_to_send(&mut self, now: Instant) -> Option<Send> {
        let seq = self.to_send.pop_front()?;
        let entry = self.unacknowledged.get_mut(&seq)?;
        entry.sent_at = Some(now);
        self.without_packet_id.push_back(seq);
        Some(Send { payload: entry.payload.clone(), is_repeat: entry.written })
    }

    /// The connection has written the next publish, under this packet id.
    pub(crate) fn written(&mut self, packet_id: u16) {
        let Some(seq) = self.without_packet_id.pop_front() else { return };
        self.by_packet_id.insert(packet_id, seq);
        if let Some(entry) = self.unacknowledged.get_mut(&seq) {
            entry.written = true;
        }
    }

    /// The reading whose wait this ended; an acknowledgement of nothing we know counts for nothing.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<u64> {
        let seq = self.by_packet_id.remove(&packet_id)?;
        self.unacknowledged.remove(&seq).map(|_| seq)
    }

    /// What is below `seq` was given up; the broker may have some of it.
    pub(crate) fn forget_below(&mut self, seq: u64) {
        self.unacknowledged = self.unacknowledged.split_off(&seq);
        self.to_send.retain(|open| *open >= seq);
    }

    /// The connection is gone, and with it all packet ids: everything unacknowledged is to be sent again, oldest first.
    pub(crate) fn connection_lost(&mut self) {
        self.by_packet_id.clear();
        self.without_packet_id.clear();
        self.to_send = self.unacknowledged.keys().copied().collect();
        for entry in self.unacknowledged.values_mut() {
            entry.sent_at = None;
        }
    }

    /// When the longest waiting reading was handed to the present connection.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        // Handed over in sequence order, so the oldest has waited longest.
        self.unacknowledged.first_key_value().and_then(|(_, entry)| entry.sent_at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn filled(n: u64) -> Window {
        let mut window = Window::new(4, 6);
        for seq in 1..=n {
            assert!(window.has_room(seq));
            window.push(seq, vec![u8::try_from(seq).unwrap()]);
        }
        window
    }

    fn send_all(window: &mut Window) -> Vec<(u8, bool)> {
        std::iter::from_fn(|| window.next_to_send(Instant::now())).map(|s| (s.payload[0], s.is_repeat)).collect()
    }

    #[test]
    fn packet_ids_belong_to_readings_in_the_order_they_were_handed_over() {
        let mut window = filled(3);
        assert_eq!(send_all(&mut window), [(1, false), (2, false), (3, false)]);
        for id in [10, 11, 12] {
            window.written(id);
        }
        assert_eq!(window.acknowledged(11), Some(2));
        window.connection_lost();
        assert_eq!(send_all(&mut window), [(1, true), (3, true)]);
    }

    #[test]
    fn only_what_was_written_counts_as_repeat() {
        let mut window = filled(3);
        send_all(&mut window);
        window.written(1);
        window.connection_lost();
        assert_eq!(send_all(&mut window), [(1, true), (2, false), (3, false)]);
    }

    #[test]
    fn acknowledgements_of_an_old_connection_or_of_nothing_end_no_reading() {
        let mut window = filled(2);
        send_all(&mut window);
        window.written(1);
        window.connection_lost();
        assert_eq!(window.acknowledged(1), None);
        assert_eq!(window.acknowledged(99), None);
        assert_eq!(send_all(&mut window).len(), 2);
    }

    #[test]
    fn an_acknowledgement_is_taken_once() {
        let mut window = filled(1);
        send_all(&mut window);
        window.written(5);
        assert_eq!(window.acknowledged(5), Some(1));
        assert_eq!(window.acknowledged(5), None);
        assert!(window.is_empty());
    }

    #[test]
    fn what_was_given_up_is_neither_sent_nor_counted_and_the_rest_keeps_its_packet_ids() {
        let mut window = filled(4);
        for _ in 0..3 {
            window.next_to_send(Instant::now()).unwrap();
        }
        window.written(1);
        window.forget_below(3);
        window.written(2);
        window.written(3);
        assert_eq!(send_all(&mut window), [(4, false)]);
        assert_eq!((window.acknowledged(1), window.acknowledged(2), window.acknowledged(3)), (None, None, Some(3)));
        window.connection_lost();
        assert_eq!(send_all(&mut window), [(4, false)]);
    }

    #[test]
    fn room_is_bounded_by_size_and_by_distance_to_the_oldest() {
        let mut window = filled(4);
        assert!(!window.has_room(5));
        send_all(&mut window);
        for id in 1..=4 {
            window.written(id);
        }
        // All but the oldest are acknowledged: there is room, but not without end.
        for id in 2..=4 {
            assert!(window.acknowledged(id).is_some());
        }
        assert!(window.has_room(6));
        assert!(!window.has_room(7));
    }
}

package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// busLag is how many events a subscriber may be behind before it is cut off.
const busLag = 1024

// busBytes bounds the history's texts, in bytes: a label may be long.
const busBytes = 8 << 20

// A Journal keeps events beyond the process. Append is called by one goroutine at a time; it deals with its own errors.
type Journal interface{ Append(brig.Event) }

// A Bus carries events from the orchestrators to whoever listens. It remembers the newest ones. Its methods may be used from
// several goroutines; every subscriber sees the events in the order of publishing.
type Bus struct {
	size    int // of the history, in events
	journal Journal

	mu    sync.Mutex
	past  []brig.Event // the newest, oldest first; at most size, and busBytes unless it is only one
	bytes int          // of past
	subs  map[*subscriber]bool
	total uint64 // events published
}

// A subscriber's channel is closed, by Publish, once it is full.
type subscriber struct{ c chan brig.Event }

// NewBus returns a bus that remembers the newest size events.
func NewBus(size int) *Bus { return &Bus{size: size, subs: map[*subscriber]bool{}} }

// Keep has past, of a former process, come before all that is published, and j take what is published from now on. It is called before
// the bus is used.
func (b *Bus) Keep(j Journal, past []brig.Event) {
	for _, e := range past {
		b.remember(e)
	}
	b.journal = j
}

// Publish sends e to all subscribers and sets its Time if that is zero. It never waits for one: who is too far behind is cut off. The
// journal has an event before any subscriber.
func (b *Bus) Publish(e brig.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b.total++
	if b.journal != nil {
		b.journal.Append(e)
	}
	b.remember(e)
	for s := range b.subs {
		select {
		case s.c <- e:
		default:
			delete(b.subs, s)
			close(s.c)
		}
	}
}

// Count is how many events have been published since the bus was made, and how many listen now.
func (b *Bus) Count() (events uint64, subscribers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total, len(b.subs)
}

// remember adds e to the history and drops what is too much of it. The caller holds the lock, or is alone.
func (b *Bus) remember(e brig.Event) {
	b.past = append(b.past, e)
	b.bytes += eventBytes(e)
	n := 0
	for len(b.past)-n > b.size || b.bytes > busBytes && len(b.past)-n > 1 {
		b.bytes -= eventBytes(b.past[n])
		n++
	}
	clear(b.past[:n]) // the array lives on until append makes a new one
	b.past = b.past[n:]
}

// eventBytes is the length of e's texts.
func eventBytes(e brig.Event) int {
	n := len(e.Type) + len(e.Action) + len(e.ActorID)
	for k, v := range e.Attributes {
		n += len(k) + len(v)
	}
	return n
}

// Events calls each for the past events from since on, then for new ones, until until or ctx ends, or each fails. As with dockerd, a zero
// since means no past events, but if until is set it means all that are remembered; a zero until means for ever. ready, if not nil, is
// called once no later event can be missed. It returns nil when until has come, else ctx's error, each's error, or Unavailable when the
// caller has fallen too far behind. each may publish.
func (b *Bus) Events(ctx context.Context, since, until time.Time, ready func(), each func(brig.Event) error) error {
	past, s := b.subscribe(since, until)
	defer b.unsubscribe(s)
	if ready != nil {
		ready()
	}
	for _, e := range past {
		if err := each(e); err != nil {
			return err
		}
	}
	var over <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		over = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return b.drain(s, until, each)
		case e, ok := <-s.c:
			if !ok {
				return errs.New(errs.Unavailable, "events: the reader has fallen behind by more than %d events", busLag)
			}
			if !until.IsZero() && e.Time.After(until) {
				return nil
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}
}

// subscribe takes the matching history and joins in one step, so that no event is lost or doubled between the two.
func (b *Bus) subscribe(since, until time.Time) ([]brig.Event, *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var past []brig.Event
	if !since.IsZero() || !until.IsZero() {
		for _, e := range b.past {
			if !e.Time.Before(since) && (until.IsZero() || !e.Time.After(until)) {
				past = append(past, e)
			}
		}
	}
	s := &subscriber{make(chan brig.Event, busLag)}
	b.subs[s] = true
	return past, s
}

func (b *Bus) unsubscribe(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// drain delivers what came before until and is still in the channel.
func (b *Bus) drain(s *subscriber, until time.Time, each func(brig.Event) error) error {
	b.unsubscribe(s)
	for {
		select {
		case e, ok := <-s.c:
			if !ok || e.Time.After(until) {
				return nil
			}
			if err := each(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

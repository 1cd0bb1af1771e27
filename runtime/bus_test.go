package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var errEnough = errors.New("enough")

func at(sec int, action string) brig.Event {
	return brig.Event{Type: "image", Action: action, Time: time.Unix(int64(sec), 0)}
}

func TestBusHistory(t *testing.T) {
	past := time.Unix(1000, 0)
	for _, c := range []struct {
		name         string
		since, until time.Time
		want         string
	}{
		{"neither: nothing past", time.Time{}, time.Time{}, ""},
		{"since", time.Unix(3, 0), past, "c d e"},
		{"since a moment between", time.Unix(3, 1), past, "d e"},
		{"until alone: all that are remembered", time.Time{}, past, "b c d e"},
		{"both", time.Unix(2, 0), time.Unix(4, 0), "b c d"},
		{"since alone, then live", time.Unix(4, 0), time.Time{}, "d e"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBus(4)
			for i, a := range []string{"a", "b", "c", "d", "e"} {
				b.Publish(at(i+1, a))
			}
			var got []string
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- b.Events(ctx, c.since, c.until, nil, func(e brig.Event) error { got = append(got, e.Action); return nil })
			}()
			synctest.Wait()
			cancel()
			err := <-done
			if c.until.IsZero() != (err != nil) {
				t.Errorf("%s: error %v", c.name, err)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
			if len(b.subs) != 0 {
				t.Errorf("%s: the subscriber stays", c.name)
			}
		})
	}
}

func TestBusUntilInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(4)
		var got []string
		go func() {
			for i := range 5 {
				b.Publish(brig.Event{Action: fmt.Sprint(i)})
				time.Sleep(time.Second)
			}
		}()
		err := b.Events(t.Context(), time.Time{}, time.Now().Add(2500*time.Millisecond), nil, func(e brig.Event) error {
			if e.Time.IsZero() {
				t.Error("an event without a time")
			}
			got = append(got, e.Action)
			return nil
		})
		if err != nil || strings.Join(got, "") != "012" {
			t.Errorf("got %q, %v", got, err)
		}
		synctest.Wait()
		time.Sleep(10 * time.Second)
	})
}

func TestBusOrderAndReady(t *testing.T) {
	b := NewBus(4)
	const n = 500
	var readers sync.WaitGroup
	var ready sync.WaitGroup
	for range 4 {
		ready.Add(1)
		readers.Go(func() {
			next := 0
			err := b.Events(t.Context(), time.Time{}, time.Time{}, ready.Done, func(e brig.Event) error {
				if e.Action != fmt.Sprint(next) {
					t.Errorf("got %s, want %d", e.Action, next)
				}
				if next++; next == n {
					return errEnough
				}
				return nil
			})
			if err != errEnough {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	for i := range n {
		b.Publish(brig.Event{Action: fmt.Sprint(i)})
	}
	readers.Wait()
}

// TestBusSlowReader has a reader that never takes its second event: Publish goes on, and the reader is cut off.
func TestBusSlowReader(t *testing.T) {
	b := NewBus(4)
	ready, stuck, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- b.Events(t.Context(), time.Time{}, time.Time{}, func() { close(ready) }, func(brig.Event) error { <-stuck; return nil })
	}()
	<-ready
	for range busLag + 2 {
		b.Publish(brig.Event{Action: "x"})
	}
	close(stuck)
	if err := <-done; !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "fallen behind") {
		t.Errorf("error %v", err)
	}
}

// shelf is a journal in memory. told is how many events subscribers had been sent before it had them.
type shelf struct {
	bus    *Bus
	events []brig.Event
	told   int
}

func (s *shelf) Append(e brig.Event) {
	for sub := range s.bus.subs {
		s.told += len(sub.c)
	}
	s.events = append(s.events, e)
}

func TestBusGoesOnWithAJournal(t *testing.T) {
	b := NewBus(3)
	kept := &shelf{bus: b}
	b.Keep(kept, []brig.Event{at(1, "a"), at(2, "b"), at(3, "c"), at(4, "d")})
	b.Publish(at(5, "e"))
	var got string
	err := b.Events(t.Context(), time.Unix(1, 0), time.Unix(1000, 0), nil, func(e brig.Event) error { got += e.Action; return nil })
	if err != nil || got != "cde" {
		t.Errorf("history %q, %v", got, err)
	}
	if len(kept.events) != 1 || kept.events[0].Action != "e" {
		t.Errorf("the journal got %v", kept.events)
	}
}

// An event is in the journal before a subscriber has it.
func TestBusWritesBeforeItTells(t *testing.T) {
	b := NewBus(3)
	kept := &shelf{bus: b}
	b.Keep(kept, nil)
	_, sub := b.subscribe(time.Time{}, time.Time{})
	b.Publish(at(1, "a"))
	if len(kept.events) != 1 || kept.told != 0 || len(sub.c) != 1 {
		t.Errorf("%d events kept, %d told before, %d told", len(kept.events), kept.told, len(sub.c))
	}
}

func TestBusHistoryIsBoundedInBytes(t *testing.T) {
	b := NewBus(1000)
	for i := range 40 {
		b.Publish(brig.Event{Action: fmt.Sprint(i), Attributes: map[string]string{"x": strings.Repeat("x", 1<<20)}})
	}
	if n := len(b.past); n < 4 || n > 8 || b.bytes > busBytes || b.past[n-1].Action != "39" {
		t.Errorf("%d events of %d bytes", n, b.bytes)
	}
	b.Publish(brig.Event{Action: strings.Repeat("x", 2*busBytes)})
	if len(b.past) != 1 {
		t.Errorf("%d events", len(b.past))
	}
}

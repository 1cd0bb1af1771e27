package runtime

import (
	"context"
	"slices"
	"sync"
)

// slots lets so many at once through a gate, in the order in which they took their tickets.
type slots struct {
	mu    sync.Mutex
	free  int
	queue []ticket
}

// A ticket is closed when its turn has come.
type ticket chan struct{}

func newSlots(n int) *slots { return &slots{free: n} }

// ticket joins the queue; it never waits. Every ticket must be given back, used or not.
func (s *slots) ticket() ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := make(ticket)
	if s.free > 0 {
		s.free--
		close(t)
	} else {
		s.queue = append(s.queue, t)
	}
	return t
}

// ready reports whether the turn has come.
func (t ticket) ready() bool {
	select {
	case <-t:
		return true
	default:
		return false
	}
}

// wait returns when the turn has come or ctx ends.
func (t ticket) wait(ctx context.Context) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveBack leaves the queue, or lets the next one through.
func (s *slots) giveBack(t ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := slices.Index(s.queue, t); n >= 0 {
		s.queue = slices.Delete(s.queue, n, n+1)
		return
	}
	if len(s.queue) > 0 {
		close(s.queue[0])
		s.queue = s.queue[1:]
		return
	}
	s.free++
}

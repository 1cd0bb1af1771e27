package runtime

import (
	"io"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// progressGap is the least time between two reports of bytes of one layer.
const progressGap = 100 * time.Millisecond

// A reporter hands progress to a client, from a goroutine of its own, so that a client that reads slowly holds up nobody else's
// download. Reports of bytes that the client has not taken yet are replaced by newer ones; so the queue stays short.
type reporter struct {
	done chan struct{}

	mu     sync.Mutex
	queue  []brig.Progress
	wake   chan struct{} // has room for one
	closed bool
}

func newReporter(progress func(brig.Progress)) *reporter {
	r := &reporter{done: make(chan struct{}), wake: make(chan struct{}, 1)}
	go r.run(progress)
	return r
}

func (r *reporter) run(progress func(brig.Progress)) {
	defer close(r.done)
	for range r.wake {
		r.mu.Lock()
		todo, closed := r.queue, r.closed
		r.queue = nil
		r.mu.Unlock()
		for _, p := range todo {
			progress(p)
		}
		if closed {
			return
		}
	}
}

// add never waits.
func (r *reporter) add(p brig.Progress) {
	r.mu.Lock()
	replaced := false
	for n := len(r.queue) - 1; n >= 0 && p.Total > 0; n-- {
		if q := &r.queue[n]; q.ID == p.ID {
			if q.Status == p.Status {
				*q, replaced = p, true
			}
			break
		}
	}
	if !replaced {
		r.queue = append(r.queue, p)
	}
	r.mu.Unlock()
	r.kick()
}

func (r *reporter) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// say reports one line without bytes.
func (r *reporter) say(id, status string) { r.add(brig.Progress{ID: id, Status: status}) }

// close returns when everything has been handed over. What is added later is lost.
func (r *reporter) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.kick()
	<-r.done
}

// A meter reports bytes no more often than every progressGap, but always the last ones. It is for one goroutine.
type meter struct {
	tell          func(status string, current, total int64)
	status        string
	current, size int64
	last          time.Time
}

func (m *meter) add(n int) {
	m.current += int64(n)
	if now := time.Now(); m.current >= m.size || now.Sub(m.last) >= progressGap {
		m.last = now
		m.tell(m.status, min(m.current, m.size), m.size)
	}
}

// meterReader counts what is read through it.
type meterReader struct {
	r io.Reader
	m *meter
}

func (r meterReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.m.add(n)
	}
	return n, err
}

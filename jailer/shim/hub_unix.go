//go:build linux || freebsd

package shim

import (
	"os"
	"sync"
)

// backlog is how many bytes wait for one client before the process has to.
const backlog = 64 << 10

// A hub passes a process's output to all who are attached.
type hub struct {
	mu      sync.Mutex
	clients []*client
	free    bool   // the process has ended: what is left is little, and nothing waits
	last    []byte // the exit frame, once the output is complete
}

// A client is one attached connection and what is on its way to it.
type client struct {
	conn           *os.File
	stdout, stderr bool
	mu             sync.Mutex
	cond           *sync.Cond
	out            []byte // frames to write
	free           bool   // nobody waits for room
	closing        bool   // no frame will follow
	gone           bool   // the peer is away, or has all
}

// add attaches c: its first frame is Attached, and each output byte from now on follows. A process that has ended answers with its end.
func (h *hub) add(c *client) {
	c.cond = sync.NewCond(&c.mu)
	h.mu.Lock()
	defer h.mu.Unlock()
	c.free = h.free
	c.out = AppendFrame(nil, Attached, nil)
	if h.last != nil {
		c.out = append(c.out, h.last...)
		c.closing = true
		return
	}
	h.clients = append(h.clients, c)
}

func (h *hub) remove(c *client) {
	c.leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, d := range h.clients {
		if d == c {
			h.clients = append(h.clients[:i:i], h.clients[i+1:]...)
			return
		}
	}
}

func (h *hub) snapshot() []*client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients // never changed in place: remove copies, add appends beyond every snapshot's length
}

// write gives b to each client that wants the stream, and waits for those that are slow.
func (h *hub) write(kind byte, b []byte) {
	for _, c := range h.snapshot() {
		if kind == Stdout && c.stdout || kind == Stderr && c.stderr {
			c.put(kind, b)
		}
	}
}

// unbound ends back pressure.
func (h *hub) unbound() {
	h.mu.Lock()
	h.free = true
	clients := h.clients
	h.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		c.free = true
		c.cond.Broadcast()
		c.mu.Unlock()
	}
}

// end gives each client the exit frame as its last.
func (h *hub) end(frame []byte) {
	h.mu.Lock()
	h.last = frame
	clients := h.clients
	h.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		if !c.closing {
			c.out = append(c.out, frame...)
			c.closing = true
		}
		c.cond.Broadcast()
		c.mu.Unlock()
	}
}

// send adds a frame that is no output.
func (c *client) send(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.out = append(c.out, frame...)
		c.cond.Broadcast()
	}
}

// busy reports whether output is still on its way to somebody.
func (h *hub) busy() bool {
	for _, c := range h.snapshot() {
		c.mu.Lock()
		gone := c.gone
		c.mu.Unlock()
		if !gone {
			return true
		}
	}
	return false
}

func (c *client) put(kind byte, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > backlog && !c.free && !c.gone {
		c.cond.Wait()
	}
	if c.gone || c.closing {
		return
	}
	c.out = AppendFrame(c.out, kind, b)
	c.cond.Broadcast()
}

// drain writes frames to the connection until the last, or until the peer is gone.
func (c *client) drain() {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closing && !c.gone {
			c.cond.Wait()
		}
		b := c.out
		last := c.closing
		c.out = spare[:0]
		gone := c.gone
		c.cond.Broadcast()
		c.mu.Unlock()
		if gone {
			return
		}
		if _, err := c.conn.Write(b); err != nil || last {
			c.leave()
			return
		}
		spare = b
	}
}

// leave gives up the connection, so that nothing waits for it.
func (c *client) leave() {
	c.mu.Lock()
	c.gone = true
	c.cond.Broadcast()
	c.mu.Unlock()
	c.conn.Close()
}

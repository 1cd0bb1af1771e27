package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// How long an upstream server is waited for: the resolver libraries in containers give up after 5 s.
const (
	waitNext = 2 * time.Second // when another server can be asked after it
	waitLast = 4 * time.Second
)

// dialer connects to an upstream server by "udp" or "tcp".
type dialer func(ctx context.Context, network string, s server) (net.Conn, error)

// forward asks the servers in turn and returns the answer for the client: that of the first server that neither fails nor refuses.
func (q *query) forward(ctx context.Context, servers []server, dial dialer) []byte {
	for i, s := range servers {
		wait := waitNext
		if i == len(servers)-1 {
			wait = waitLast
		}
		reply, err := q.ask(ctx, s, dial, wait)
		if err != nil {
			continue
		}
		if rcode := int(reply[3] & rcodeMask); rcode == dns.RcodeServerFailure || rcode == dns.RcodeRefused {
			continue
		}
		copy(reply, q.raw[:2])
		return q.fit(reply)
	}
	return refuse(q.raw, dns.RcodeServerFailure)
}

// ask asks one server the way the client asked, and by TCP if a UDP answer is truncated.
func (q *query) ask(ctx context.Context, s server, dial dialer, wait time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if q.tcp {
		return q.exchange(ctx, "tcp", s, dial)
	}
	reply, err := q.exchange(ctx, "udp", s, dial)
	if err != nil || reply[2]&bitTC == 0 {
		return reply, err
	}
	if whole, err := q.exchange(ctx, "tcp", s, dial); err == nil {
		return whole, nil
	}
	return reply, nil
}

// exchange sends the query under an ID of its own from a port of its own, and waits for the answer to it.
func (q *query) exchange(ctx context.Context, network string, s server, dial dialer) ([]byte, error) {
	c, err := dial(ctx, network, s)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	id := uint16(rand.Uint32())
	sent := slices.Clone(q.raw)
	binary.BigEndian.PutUint16(sent, id)
	if network == "tcp" {
		return q.exchangeTCP(c, sent, id)
	}
	if _, err := c.Write(sent); err != nil {
		return nil, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := c.Read(*buf)
		if err != nil {
			return nil, err
		}
		if reply := (*buf)[:n]; q.answers(reply, id) { // else somebody guesses, or an answer came late
			return slices.Clone(reply), nil
		}
	}
}

func (q *query) exchangeTCP(c net.Conn, sent []byte, id uint16) ([]byte, error) {
	if _, err := c.Write(framed(sent)); err != nil {
		return nil, err
	}
	reply, err := readFramed(c)
	if err == nil && !q.answers(reply, id) {
		err = errors.New("the answer is to another question")
	}
	return reply, err
}

// framed puts a message's length before it (RFC 1035, 4.2.2).
func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...)
}

func readFramed(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

package keeper

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	maxSessions = 1024 // clients of one port at a time
	sessionIdle = 90 * time.Second
)

// udpRelay relays datagrams; one without a target drops them.
type udpRelay struct {
	conn   *net.UDPConn
	v4     *ipv4.PacketConn // of conn; nil for IPv6
	v6     *ipv6.PacketConn // of conn; nil for IPv4
	idle   time.Duration
	log    *slog.Logger
	wg     sync.WaitGroup
	served bool // a goroutine reads

	mu       sync.Mutex // guards what follows
	target   netip.AddrPort
	sessions map[flow]*session
	closed   bool
}

// flow is a client, and the address of ours that it talks to: answers have to come from that one.
type flow struct {
	client netip.AddrPort
	local  netip.Addr
}

// session is a connected socket to the target.
type session struct {
	conn *net.UDPConn
	used atomic.Int64 // when, in Unix nanoseconds
}

func newUDPRelay(at netip.AddrPort, log *slog.Logger) (*udpRelay, error) {
	c, err := net.ListenUDP("udp"+family(at.Addr()), net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	r := &udpRelay{conn: c, idle: sessionIdle, log: log, sessions: map[flow]*session{}}
	if family(at.Addr()) == "4" {
		r.v4 = ipv4.NewPacketConn(c)
		err = r.v4.SetControlMessage(ipv4.FlagDst, true)
	} else {
		r.v6 = ipv6.NewPacketConn(c)
		err = r.v6.SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return r, nil
}

func (r *udpRelay) port() uint16 { return uint16(r.conn.LocalAddr().(*net.UDPAddr).Port) }

// aim changes the target and ends the sessions with the old one.
func (r *udpRelay) aim(to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != to {
		r.target = to
		r.endSessions()
	}
	if to.IsValid() && !r.served {
		r.served = true
		r.wg.Go(r.serve)
	}
}

// endSessions ends all. The caller holds mu.
func (r *udpRelay) endSessions() {
	for f, s := range r.sessions {
		s.conn.Close()
		delete(r.sessions, f)
	}
}

func (r *udpRelay) close() {
	r.mu.Lock()
	r.closed = true
	r.endSessions()
	r.mu.Unlock()
	r.conn.Close()
	r.wg.Wait()
}

func (r *udpRelay) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, f, err := r.read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			r.log.Warn("a published port takes no datagrams just now", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if s := r.session(f); s != nil {
			s.used.Store(time.Now().UnixNano())
			s.conn.Write(buf[:n]) // like the network, it may lose datagrams
		}
	}
}

func (r *udpRelay) read(buf []byte) (n int, f flow, err error) {
	var from net.Addr
	var dst net.IP
	if r.v4 != nil {
		var cm *ipv4.ControlMessage
		if n, cm, from, err = r.v4.ReadFrom(buf); cm != nil {
			dst = cm.Dst
		}
	} else {
		var cm *ipv6.ControlMessage
		if n, cm, from, err = r.v6.ReadFrom(buf); cm != nil {
			dst = cm.Dst
		}
	}
	if err != nil {
		return 0, f, err
	}
	f.client = from.(*net.UDPAddr).AddrPort()
	f.local, _ = netip.AddrFromSlice(dst)
	f.local = f.local.Unmap()
	return n, f, nil
}

// write sends from the address that the client talks to.
func (r *udpRelay) write(b []byte, f flow) {
	to := net.UDPAddrFromAddrPort(f.client)
	if r.v4 != nil {
		r.v4.WriteTo(b, &ipv4.ControlMessage{Src: f.local.AsSlice()}, to)
		return
	}
	r.v6.WriteTo(b, &ipv6.ControlMessage{Src: f.local.AsSlice()}, to)
}

// session returns that of f, which it makes if there is none; nil: the datagram is dropped.
func (r *udpRelay) session(f flow) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[f]; s != nil {
		return s
	}
	if r.closed || !r.target.IsValid() || len(r.sessions) >= maxSessions {
		return nil
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.target))
	if err != nil {
		return nil
	}
	s := &session{conn: c}
	s.used.Store(time.Now().UnixNano())
	r.sessions[f] = s
	r.wg.Go(func() {
		r.answer(s, f)
		c.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sessions[f] == s {
			delete(r.sessions, f)
		}
	})
	return s
}

// answer copies what the target sends, until neither side has sent anything for a while, or the target refuses.
func (r *udpRelay) answer(s *session, f flow) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		idle := time.Since(time.Unix(0, s.used.Load()))
		if idle >= r.idle {
			return
		}
		s.conn.SetReadDeadline(time.Now().Add(r.idle - idle))
		n, err := s.conn.Read(*buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return
		}
		s.used.Store(time.Now().UnixNano())
		r.write((*buf)[:n], f)
	}
}

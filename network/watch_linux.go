package network

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// nftGroup is the multicast group of nftables' notifications, NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const nftGroup = 7

// watch gives a signal after links have been deleted, containers' aside, or rules have changed on this host; stop ends it. Where the
// kernel can't tell, there are no signals.
func (h *host) watch() (events <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	signal := func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	var conns []*netlink.Conn
	for _, s := range []struct {
		what    string
		family  int
		group   uint32
		filter  []bpf.RawInstruction
		matters func(netlink.Message) bool
	}{
		{"rules", unix.NETLINK_NETFILTER, nftGroup, nil, func(netlink.Message) bool { return true }},
		{"links", unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, only(unix.RTM_DELLINK), h.matters},
	} {
		c, err := subscribe(s.family, s.group, s.filter)
		if err != nil {
			h.log.Warn("watch what others change; it is looked for once a minute", "what", s.what, "err", err)
			continue
		}
		conns = append(conns, c)
		wg.Go(func() {
			defer c.Close()
			listen(c, s.matters, signal)
		})
	}
	return ch, func() {
		for _, c := range conns {
			c.SetReadDeadline(time.Unix(1, 0)) // ends the Receive
		}
		wg.Wait()
	}
}

func subscribe(family int, group uint32, filter []bpf.RawInstruction) (*netlink.Conn, error) {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	if filter != nil {
		err = c.SetBPF(filter)
	}
	if err == nil {
		err = c.JoinGroup(group)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// only is a filter for messages of one type: containers that come and go make many of others. A message's type is its fifth and sixth
// byte in the host's order (netlink(7)), which a filter reads in the network's.
func only(typ uint16) []bpf.RawInstruction {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], typ)
	out, _ := bpf.Assemble([]bpf.Instruction{ // constant, and right
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(b[:])), SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	})
	return out
}

// listen calls signal for each message that matters, until c's deadline is set.
func listen(c *netlink.Conn, matters func(netlink.Message) bool, signal func()) {
	for {
		msgs, err := c.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil { // more has come than the socket holds
			time.Sleep(10 * time.Millisecond)
			signal()
		}
		for _, m := range msgs {
			if matters(m) {
				signal()
				break
			}
		}
	}
}

// matters reports whether a message is about the end of a link that isn't a container's: those go all the time.
func (h *host) matters(m netlink.Message) bool {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() == unix.IFLA_IFNAME {
			return !h.isVeth(attrs.String())
		}
	}
	return false
}

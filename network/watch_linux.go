package network

import (
	"sync"
	"time"

	nfnl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nftGroup is the multicast group of nftables' notifications, NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const nftGroup = 7

// watch gives a signal after bridges have been deleted or rules have changed on this host; stop ends it. Where the kernel can't tell,
// there are no signals.
func (h *host) watch() (events <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	signal := func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	var stops []func()
	if c, err := nfnl.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		h.log.Warn("watch nftables", "err", err)
	} else if err := c.JoinGroup(nftGroup); err != nil {
		h.log.Warn("watch nftables", "err", err)
		c.Close()
	} else {
		stops = append(stops, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		wg.Go(func() {
			defer c.Close()
			for {
				if _, err := c.Receive(); isTimeout(err) {
					return
				} else if err != nil {
					time.Sleep(10 * time.Millisecond) // more has come than the socket holds
				}
				signal()
			}
		})
	}
	links, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	if err := netlink.LinkSubscribe(links, done); err != nil {
		h.log.Warn("watch links", "err", err)
	} else {
		stops = append(stops, func() { close(done) })
		wg.Go(func() {
			for u := range links {
				if u.Header.Type == unix.RTM_DELLINK && u.Link.Type() == "bridge" {
					signal()
				}
			}
		})
	}
	return ch, func() {
		for _, f := range stops {
			f()
		}
		wg.Wait()
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

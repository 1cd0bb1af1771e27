package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Neighbour is another host: a network namespace with a link to that of this process, which it reaches at Here.
type Neighbour struct {
	Here netip.Addr
	link string
	ns   *os.File
}

// NewNeighbour makes one, with addresses from 198.18.0.0/30, which RFC 2544 keeps for measurements. One at a time in a namespace.
func NewNeighbour(ctx context.Context) (_ *Neighbour, err error) {
	n := &Neighbour{Here: netip.MustParseAddr("198.18.0.1"), link: "brig-near"}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		n.ns, err = os.Open("/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	at := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd())
	for _, line := range []string{
		"ip link add " + n.link + " type veth peer name far netns " + at, "ip addr add 198.18.0.1/30 dev " + n.link, "ip link set " + n.link + " up",
		"nsenter --net=" + at + " ip addr add 198.18.0.2/30 dev far", "nsenter --net=" + at + " ip link set far up",
	} {
		args := strings.Fields(line)
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return n, nil
}

// Dial connects from there. The connection can be used from anywhere.
func (n *Neighbour) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	return DialIn(ctx, n.ns, network, addr)
}

// Close ends it. The link goes first: it would go with the namespace, but nobody could say when.
func (n *Neighbour) Close() error {
	defer n.ns.Close()
	if out, err := exec.Command("ip", "link", "del", n.link).CombinedOutput(); err != nil {
		return fmt.Errorf("ip link del %s: %w: %s", n.link, err, out)
	}
	return nil
}

// DialIn connects from a network namespace.
func DialIn(ctx context.Context, ns *os.File, network, addr string) (c net.Conn, err error) {
	err = onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the namespace: %w", err)
		}
		c, err = new(net.Dialer).DialContext(ctx, network, addr) // an address alone makes no goroutine
		return err
	})
	return c, err
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

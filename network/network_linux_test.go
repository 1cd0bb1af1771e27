package network

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/nsfile"
)

// serve answers every TCP connection inside the namespace with text.
func serve(t *testing.T, ns brig.Netns, port int, text string) {
	t.Helper()
	f, err := os.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var l net.Listener
	if err := inNetns(f, func() (err error) { l, err = net.Listen("tcp4", ":"+strconv.Itoa(port)); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	}()
}

// lastOf is the last address but one of an IPv4 prefix, the one before its broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	for next := a; p.Contains(next.Next()); next = next.Next() {
		a = next
	}
	return a
}

func TestBridgeLife(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and a bridge")
	}
	ctx, recs, dir, instance := t.Context(), memory{}, t.TempDir(), string(brig.NewRID()[:8])
	n := open(t, recs, instance, dir)
	if _, err := netlink.LinkByName(n.host.bridgeName()); err == nil {
		t.Fatal("there is a bridge before the first container")
	}
	tcp := brig.Port{Number: 8080, Proto: "tcp"}
	a, b := container(brig.PortBinding{Port: tcp}), container()
	attA, err := n.Attach(ctx, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.host.remove() }) // for a test that failed half-way
	attB, err := n.Attach(ctx, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Endpoints, b.Endpoints = attA.Endpoints, attB.Endpoints
	epA, epB := attA.Endpoints["bridge"], attB.Endpoints["bridge"]
	if epA.Addr4 == epB.Addr4 || !n.find("bridge").Subnets[0].Prefix.Contains(epA.Addr4.Addr()) {
		t.Errorf("addresses %v and %v", epA.Addr4, epB.Addr4)
	}
	if l, err := netlink.LinkByName(n.host.bridgeName()); err != nil || l.Attrs().HardwareAddr.String() != macFor(epA.Gateway4) {
		t.Errorf("the bridge's address changes with its members: %v, %v", l.Attrs().HardwareAddr, err)
	}
	serve(t, attA.Netns, 8080, "hello")
	port := itoa(epA.Ports[0].HostPort)
	for what, addr := range map[string]string{
		"its own address":      epA.Addr4.Addr().String() + ":8080",
		"localhost":            "127.0.0.1:" + port,
		"the bridge's address": epA.Gateway4.String() + ":" + port,
	} {
		if got := ask(addr); got != "hello" {
			t.Errorf("by %s (%s): %q", what, addr, got)
		}
	}
	for what, addr := range map[string]string{"neighbour": epA.Addr4.Addr().String() + ":8080", "hairpin": epA.Gateway4.String() + ":" + port} {
		f, _ := os.Open(attB.Netns.Path)
		var got string
		if err := inNetns(f, func() error { got = ask(addr); return nil }); err != nil || got != "hello" {
			t.Errorf("from a container, %s (%s): %q %v", what, addr, got, err)
		}
		f.Close()
	}

	// A new brigd takes over: the port answers, addresses stay taken, a stranger's leftovers go.
	close(n.closing) // as the kernel does for a killed process
	n.tending.Wait()
	n.keeper.Close()
	n2 := open(t, recs, instance, dir)
	restarted := func() *Networks { return open(t, recs, instance, dir) }
	// Nothing that has come to overlap moves a network that somebody runs in.
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	subnet := n.find("bridge").Subnets[0].Prefix
	late := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(lastOf(subnet), 32))}
	if err := netlink.AddrAdd(lo, late); err != nil {
		t.Fatal(err)
	}
	err = n2.Restore(ctx, []*brig.Container{a})
	if e := netlink.AddrDel(lo, late); err != nil || e != nil {
		t.Fatal(err, e)
	}
	if got := n2.find("bridge").Subnets[0].Prefix; got != subnet {
		t.Errorf("the bridge's subnet is %v, it was %v", got, subnet)
	}
	if got := ask("127.0.0.1:" + port); got != "hello" {
		t.Errorf("after the restart: %q", got)
	}
	if _, err := os.Stat(attB.Netns.Path); err == nil {
		t.Error("the namespace of a container that is gone is still there")
	}
	if _, err := n2.Attach(ctx, container(brig.PortBinding{Port: tcp, HostPort: epA.Ports[0].HostPort}), nil); err == nil || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("a taken port: %v", err)
	}
	if len(n2.at) != 1 {
		t.Errorf("%d places after a failed attach, want 1", len(n2.at))
	}
	if err := n2.Close(); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(n.host.bridgeName()); err != nil {
		t.Error("Close took the bridge from a running container")
	}
	// A restart of the container within the time that the kernel takes to delete its link: it gets its address again.
	n2 = restarted()
	if err := n2.Restore(ctx, []*brig.Container{a}); err != nil {
		t.Fatal(err)
	}
	if err := n2.Detach(ctx, a.ID); err != nil {
		t.Error(err)
	}
	if att, err := n2.Attach(ctx, a, nil); err != nil || att.Endpoints["bridge"].Addr4 != epA.Addr4 {
		t.Errorf("attach again: %v, %v", att, err)
	}
	if err := n2.Detach(ctx, a.ID); err != nil {
		t.Error(err)
	}
	if err := n2.Detach(ctx, a.ID); err != nil {
		t.Errorf("second detach: %v", err)
	}
	if err := n2.Close(); err != nil {
		t.Error(err)
	}
	links, _ := netlink.LinkList()
	if slices.ContainsFunc(links, func(l netlink.Link) bool { return strings.Contains(l.Attrs().Name, instance[:4]) }) {
		t.Error("links are left behind")
	}
	if left, _ := os.ReadDir(n2.cfg.Dir); len(left) > 0 || nsfile.IsMountPoint(n2.cfg.Dir) {
		t.Errorf("left behind: %v, mount %v", left, nsfile.IsMountPoint(n2.cfg.Dir))
	}
}

func TestModes(t *testing.T) {
	n := open(t, memory{}, "00000000", t.TempDir())
	for _, c := range []struct {
		mode string
		kind brig.NetnsKind
		name string
	}{{"host", brig.NetnsHost, "host"}, {"none", brig.NetnsPrivate, "none"}} {
		att, err := n.Attach(t.Context(), &brig.Container{ID: brig.NewID(), Spec: brig.Spec{NetworkMode: c.mode}}, nil)
		if ep, ok := att.Endpoints[c.name]; err != nil || att.Netns.Kind != c.kind || !ok || ep.Addr4.IsValid() {
			t.Errorf("%s: %+v, %v", c.mode, att, err)
		}
	}
	att, err := n.Attach(t.Context(), &brig.Container{Spec: brig.Spec{NetworkMode: "container:x"}}, &brig.Handle{InitPID: 42})
	if err != nil || att.Netns.Path != "/proc/42/ns/net" {
		t.Errorf("container: %+v, %v", att, err)
	}
	if _, err := n.Attach(t.Context(), &brig.Container{Spec: brig.Spec{NetworkMode: "container:x"}}, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("container that does not run: %v", err)
	}
	if _, err := n.Attach(t.Context(), &brig.Container{ID: brig.NewID(), Spec: brig.Spec{NetworkMode: "mine"}}, nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown network: %v", err)
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: makes network namespaces and a bridge")
	}
	n := open(b, memory{}, string(brig.NewRID()[:8]), b.TempDir())
	defer n.Close()
	for b.Loop() {
		c := container()
		if _, err := n.Attach(b.Context(), c, nil); err != nil {
			b.Fatal(err)
		}
		if err := n.Detach(b.Context(), c.ID); err != nil {
			b.Fatal(err)
		}
	}
}

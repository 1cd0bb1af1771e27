package keeper

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// oneName is a resolver at at that knows one name.
func oneName(at netip.AddrPort, name, addr string) State {
	return State{
		Resolvers: []Resolver{{Container: "c1", Listen: []netip.AddrPort{at}, Networks: []string{"n1"}}},
		Networks:  []Zone{{Network: "n1", Name: "net", Names: []Name{{name, addrs(addr)}}}},
	}
}

func want(t testing.TB, at netip.AddrPort, name, addr string) {
	t.Helper()
	if got := lookup(at.String(), name); got != addr {
		t.Fatalf("%s: %q, not %q", name, got, addr)
	}
}

func TestNamesAnswerOnceSetHasReturned(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		if err := c.Set(t.Context(), oneName(at, "web", addr)); err != nil {
			t.Fatal(err)
		}
		want(t, at, "web", addr)
	}
}

func TestKilledKeeperIsHealed(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	held, err := c.Reserve(t.Context(), []Port{{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		pid := c.lockHolder()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another keeper serves", func() error {
			if now := c.lockHolder(); now == 0 || now == pid {
				return errors.New("there is none")
			}
			if got := lookup(at.String(), "web"); got != "10.0.0.1" {
				return errors.New(got)
			}
			return nil
		})
		if l, err := net.Listen("tcp4", held[0].key().at.String()); err == nil {
			l.Close()
			t.Fatal("the reserved port isn't held by the new keeper")
		}
	}
}

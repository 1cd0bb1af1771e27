package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/brigd/brig/internal/survivor"
)

// TestMain makes the test program brig-net as well.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == survivor.DirFlag {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		survivor.Shed()
		if err := Run(ctx, os.Args[2], slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// open makes a client whose keeper is ended with the test.
func open(t testing.TB, dir string) *Client {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Open(Config{Dir: dir, Program: self, Log: quiet})
	t.Cleanup(func() {
		c.Close()
		last := Open(c.cfg)
		if err := last.Set(context.Background(), State{}); err != nil {
			t.Error("end the keeper:", err)
		}
		last.Close()
		eventually(t, "the keeper ends", func() error {
			if pid := last.proc.Holder(); pid != 0 {
				return fmt.Errorf("pid %d", pid)
			}
			return nil
		})
		if b, _ := os.ReadFile(filepath.Join(dir, survivor.LogName)); t.Failed() && len(b) > 0 {
			t.Logf("the keeper's log:\n%s", b)
		}
	})
	return c
}

// eventually waits for a condition, for as long as a busy machine may need.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within 30 s: %v", what, err)
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

// freeAddr is a loopback address with a port that was free just now, for both protocols.
func freeAddr(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		l.Close()
		if err == nil {
			u.Close()
			return at
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// exchange asks at and returns the answer.
func exchange(network, at, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, at)
	return r, err
}

// lookup asks at for addresses, by UDP, and returns them or what went wrong, in one line.
func lookup(at, name string) string {
	r, err := exchange("udp", at, name, dns.TypeA)
	if err != nil {
		return err.Error()
	}
	return text(r)
}

// text is an answer's code, if it is no success, and its records' data.
func text(r *dns.Msg) string {
	var out []string
	if r.Rcode != dns.RcodeSuccess {
		out = append(out, dns.RcodeToString[r.Rcode])
	}
	for _, rr := range r.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(out, " ")
}

// descriptors counts those of a process.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	d, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

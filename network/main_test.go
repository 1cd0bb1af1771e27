package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
	"github.com/brigd/brig/network/keeper"
)

// memory is a Records that keeps its state in a map.
type memory map[string]brig.Record

func (m memory) Put(_ context.Context, puts, deletes []brig.Record) error {
	for _, r := range puts {
		m[r.Kind+"/"+r.Key] = r
	}
	for _, r := range deletes {
		delete(m, r.Kind+"/"+r.Key)
	}
	return nil
}

func (m memory) List(_ context.Context, kind string) (out []brig.Record, _ error) {
	for _, r := range m {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	return out, nil
}

// TestMain makes the test program brig-net as well.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == survivor.DirFlag {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := keeper.Run(ctx, os.Args[2], slog.New(slog.DiscardHandler)); err != nil {
			os.Exit(1)
		}
		return
	}
	if what := os.Getenv(insideEnv); what != "" {
		inside(what)
		return
	}
	os.Exit(m.Run())
}

// insideEnv has the test program do something in a jail: see inside.
const insideEnv = "BRIG_TEST_INSIDE"

// inside serves TCP, "serve ADDR TEXT", or asks for what is served there, "ask ADDR", or for a name, "name SERVER NAME", and prints the answer.
func inside(what string) {
	f := strings.Fields(what)
	switch f[0] {
	case "serve":
		l, err := net.Listen("tcp", f[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			io.WriteString(c, f[2]+" to "+c.RemoteAddr().(*net.TCPAddr).IP.String())
			c.Close()
		}
	case "ask":
		fmt.Print(ask(f[1]))
	case "name":
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f[1])
		}}
		addrs, err := r.LookupHost(context.Background(), f[2])
		fmt.Print(addrs, err)
	}
}

// ask reads what a TCP server says, or says what went wrong.
func ask(addr string) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, _ := io.ReadAll(c)
	return string(b)
}

// open makes Networks with a keeper, which ends once it has nothing to serve.
func open(t testing.TB, recs memory, instance, dir string) *Networks {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := keeper.Open(keeper.Config{Dir: filepath.Join(dir, "k"), Program: self, Log: slog.New(slog.DiscardHandler)})
	n, err := New(context.Background(), Config{Instance: instance, Dir: filepath.Join(dir, "ns"), Records: recs, Keeper: k, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func container(ports ...brig.PortBinding) *brig.Container {
	return &brig.Container{ID: brig.NewID(), Name: "c", Spec: brig.Spec{Ports: ports}, Status: brig.Status{State: brig.Running}}
}

func TestLookupAndRecords(t *testing.T) {
	recs := memory{}
	n := open(t, recs, "00000000", t.TempDir())
	all, _ := n.List(t.Context())
	if len(all) != 3 || all[0].Name != "bridge" || all[1].Name != "host" || all[2].Name != "none" {
		t.Fatalf("default networks: %+v", all)
	}
	again, _ := open(t, recs, "00000000", t.TempDir()).List(t.Context())
	if again[0].ID != all[0].ID {
		t.Error("the bridge network's ID does not survive")
	}
	if w, err := n.Lookup(t.Context(), string(all[2].ID[:12])); err != nil || w.Name != "none" {
		t.Errorf("by prefix: %v, %v", w, err)
	}
	if _, err := n.Lookup(t.Context(), ""); !errs.Is(err, errs.NotFound) {
		t.Errorf("empty: %v", err)
	}
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

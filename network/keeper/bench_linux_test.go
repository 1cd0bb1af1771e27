package keeper

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkLocalAnswer is the work for one query without sockets.
func BenchmarkLocalAnswer(b *testing.B) {
	v := testView(nil)
	raw, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		v.answer(raw, false)
	}
}

// program builds brig-net, so that what is measured is the real one.
func program(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "brig-net")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/brigd/brig/cmd/brig-net").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return path
}

// rss is a process's resident memory in MiB.
func rss(b *testing.B, pid int) float64 {
	s, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(s)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return float64(n) / 1024
		}
	}
	return 0
}

// hundred are the states of 100 containers in one network; in each of them 10 other addresses are new.
func hundred(paths []string, n int) State {
	var s State
	z := Zone{Network: "n", Name: "net"}
	for i, p := range paths {
		s.Resolvers = append(s.Resolvers, Resolver{Container: fmt.Sprintf("%064d", i), Netns: p, Networks: []string{"n"}, Servers: []string{"192.0.2.1", "192.0.2.2"}})
		addr := fmt.Sprintf("10.%d.0.%d", (n+i)/10%250, i+1)
		for _, name := range []string{"web", "alias", "project-web-"} {
			z.Names = append(z.Names, Name{name + strconv.Itoa(i), addrs(addr)})
		}
	}
	s.Networks = []Zone{z}
	return s
}

// BenchmarkQueries asks 1,000 times per second, spread over 100 containers, while the state changes 20 times per second, and every
// tenth time one of the containers goes and comes back. Run it with -benchtime 10x: each round takes a second.
func BenchmarkQueries(b *testing.B) {
	const perSecond, changes = 1000, 20
	dir := b.TempDir()
	var paths []string
	for i := range 100 {
		paths = append(paths, filepath.Join(dir, "ns"+strconv.Itoa(i)))
		netns(b, paths[i])
	}
	c := open(b, filepath.Join(dir, "k"))
	c.cfg.Program = program(b)
	ctx := b.Context()
	if err := c.Set(ctx, oneName(freeAddr(b), "web", "10.0.0.1")); err != nil {
		b.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	idle := rss(b, c.proc.Holder())
	began := time.Now()
	if err := c.Set(ctx, hundred(paths, 0)); err != nil {
		b.Fatal(err)
	}
	opened := time.Since(began)
	conns := make([]*net.UDPConn, len(paths))
	for i, p := range paths {
		err := within(b, p, func() error {
			u, err := net.Dial("udp", inside)
			if err == nil {
				conns[i] = u.(*net.UDPConn)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		defer conns[i].Close()
	}
	before := rss(b, c.proc.Holder())

	var wg sync.WaitGroup
	stop := make(chan struct{})
	var sets []time.Duration
	wg.Go(func() {
		tick := time.NewTicker(time.Second / changes)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			s := hundred(paths, n)
			if n%10 == 0 {
				s.Resolvers = s.Resolvers[:99] // the last is asked nothing
			}
			began := time.Now()
			if err := c.Set(ctx, s); err != nil {
				b.Error(err)
			}
			sets = append(sets, time.Since(began))
		}
	})
	var mu sync.Mutex
	var took []time.Duration
	var lost atomic.Int32
	locks := make([]sync.Mutex, len(paths))
	b.ResetTimer()
	for n := range b.N * perSecond {
		if n == 0 {
			began = time.Now()
		}
		due := began.Add(time.Duration(n) * time.Second / perSecond)
		time.Sleep(time.Until(due))
		i := n % 99
		wg.Go(func() {
			locks[i].Lock()
			defer locks[i].Unlock()
			raw, _ := new(dns.Msg).SetQuestion("web"+strconv.Itoa(n*7%100)+".", dns.TypeA).Pack()
			buf := make([]byte, 512)
			sent := time.Now()
			conns[i].SetDeadline(sent.Add(5 * time.Second))
			conns[i].Write(raw)
			k, err := conns[i].Read(buf)
			d := time.Since(due) // with what it waited for: nothing is left out when the keeper is late
			if err != nil || k < len(raw)+16 || string(buf[:2]) != string(raw[:2]) {
				lost.Add(1)
			}
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
		})
	}
	b.StopTimer()
	close(stop)
	wg.Wait()
	slices.Sort(took)
	slices.Sort(sets)
	at := func(all []time.Duration, q float64) float64 {
		return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(idle, "idle-MiB")
	b.ReportMetric(before, "100-MiB")
	b.ReportMetric(float64(opened.Milliseconds()), "open100-ms")
	b.ReportMetric(at(took, 0.5), "p50-ms")
	b.ReportMetric(at(took, 0.99), "p99-ms")
	b.ReportMetric(at(took, 1), "max-ms")
	b.ReportMetric(at(sets, 0.5), "set-p50-ms")
	b.ReportMetric(at(sets, 1), "set-max-ms")
	b.ReportMetric(float64(lost.Load()), "lost")
	b.ReportMetric(rss(b, c.proc.Holder()), "after-MiB")
}

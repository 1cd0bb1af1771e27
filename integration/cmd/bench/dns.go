package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/brigd/brig/integration/internal/testbed"
)

// What dnsUnderChurn does: so many queries a second over so many sockets for so long, while of so many containers one is replaced at each of churnEvery.
const (
	dnsName      = "DNS under churn"
	dnsQueries   = 1000
	dnsSockets   = 50
	dnsLength    = 30 * time.Second
	dnsPatience  = 5 * time.Second
	churning     = 100
	churnEvery   = 100 * time.Millisecond // all of them in ten seconds
	churnWorkers = 4
)

// answers are what the queries came to; the times are sorted.
type answers struct {
	took     []time.Duration // from when it was due, so that a query counts in full that had to wait for its turn
	lost     int             // no answer within dnsPatience, or a wrong one
	replaced int             // containers
}

// dnsUnderChurn asks a server's DNS, from the network namespace of a container of a network, for that container's own and another's name, while other containers
// of the network go and come, and prints a row for each server.
func dnsUnderChurn(ctx context.Context, servers []*server, image string) error {
	fmt.Printf("\n| %s | queries | p50 | p99 | longest | lost | containers replaced |\n|---|---|---|---|---|---|---|\n", dnsName)
	for _, s := range servers {
		if s.name == "podman" {
			continue
		}
		a, err := s.dnsUnderChurn(ctx, image)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", dnsName, s.name, err)
		}
		at := func(q float64) string { return ms(a.took[int(q*float64(len(a.took)-1))]) + " ms" }
		fmt.Printf("| %s | %d | %s | %s | %s | %d | %d |\n", s.name, len(a.took), at(0.5), at(0.99), at(1), a.lost, a.replaced)
	}
	return nil
}

func (s *server) dnsUnderChurn(ctx context.Context, image string) (a answers, err error) {
	if err := errors.Join(docker("pull", "-q", image)(ctx, s), docker("network", "create", container)(ctx, s)); err != nil {
		return a, err
	}
	last := context.WithoutCancel(ctx)
	end := func(n int) error {
		failed := make([]error, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { failed[i] = docker("rm", "-f", manyName(i))(last, s) })
		}
		all.Wait()
		return errors.Join(failed...)
	}
	made := 0
	defer func() {
		err = errors.Join(err, end(made), docker("rm", "-f", container, container+"-other")(last, s), docker("network", "rm", container)(last, s))
	}()
	for _, name := range []string{container, container + "-other"} {
		if err := docker("run", "-d", "--name", name, "--network", container, image, "sleep", "6000")(ctx, s); err != nil {
			return a, err
		}
	}
	client := testbed.Client(s.cli.Host)
	defer client.CloseIdleConnections()
	for ; made < churning; made++ {
		if err := bring(ctx, client, image, made); err != nil {
			return a, err
		}
	}
	conns, err := s.dnsSockets(ctx)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, closeAll(conns)) }()
	over, cancel := context.WithTimeout(ctx, dnsLength)
	defer cancel()
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() { a.replaced, failed = s.churn(ctx, over, image) })
	took, lost := query(over, conns)
	wg.Wait()
	a.took, a.lost = took, lost
	return a, errors.Join(failed, ctx.Err())
}

// bring creates and starts one of the containers that go and come.
func bring(ctx context.Context, client *http.Client, image string, i int) error {
	body := fmt.Sprintf(`{"Image":%q,"Cmd":["sleep","6000"],"HostConfig":{"NetworkMode":%q}}`, image, container)
	if err := call(ctx, client, "POST", "/containers/create?name="+manyName(i), body, http.StatusCreated); err != nil {
		return err
	}
	return call(ctx, client, "POST", "/containers/"+manyName(i)+"/start", "", http.StatusNoContent)
}

// churn replaces one container after the other until over ends; each is there again when it returns. A server that can't keep up replaces fewer.
func (s *server) churn(ctx, over context.Context, image string) (replaced int, err error) {
	var all sync.WaitGroup
	next := make(chan int)
	failed := make([]error, churnWorkers)
	done := make([]int, churnWorkers)
	for w := range churnWorkers {
		all.Go(func() {
			client := testbed.Client(s.cli.Host)
			defer client.CloseIdleConnections()
			for i := range next {
				if failed[w] != nil {
					continue
				}
				failed[w] = call(ctx, client, "DELETE", "/containers/"+manyName(i)+"?force=1", "", http.StatusNoContent)
				if failed[w] == nil {
					failed[w] = bring(ctx, client, image, i)
				}
				done[w]++
			}
		})
	}
	tick := time.NewTicker(churnEvery)
	defer tick.Stop()
	for n := 0; over.Err() == nil; n++ {
		select {
		case <-tick.C:
		case <-over.Done():
			continue
		}
		select {
		case next <- n % churning:
		case <-over.Done():
		}
	}
	close(next)
	all.Wait()
	for _, n := range done {
		replaced += n
	}
	return replaced, errors.Join(failed...)
}

// dnsSockets are connected to the DNS of the container that stays.
func (s *server) dnsSockets(ctx context.Context) (out []net.Conn, err error) {
	r := s.cli.Run(ctx, nil, "inspect", "-f", "{{.State.Pid}}", container)
	ns, err := os.Open("/proc/" + strings.TrimSpace(r.Out) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	defer ns.Close()
	for range dnsSockets {
		c, err := testbed.DialIn(ctx, ns, "udp4", "127.0.0.11:53")
		if err != nil {
			return nil, errors.Join(err, closeAll(out))
		}
		out = append(out, c)
	}
	return out, nil
}

func closeAll(conns []net.Conn) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// query asks at its rate until over ends, whatever the answers do.
func query(over context.Context, conns []net.Conn) (took []time.Duration, lost int) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards took and lost
	turns := make([]sync.Mutex, len(conns))
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * time.Second / dnsQueries)
		time.Sleep(time.Until(due))
		if over.Err() != nil {
			break
		}
		wg.Go(func() {
			i := n % len(conns)
			turns[i].Lock()
			defer turns[i].Unlock()
			err := askOnce(conns[i], uint16(n), []string{container + ".", container + "-other."}[n%2])
			d := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d)
			if err != nil {
				lost++
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, lost
}

// askOnce asks for a name's IPv4 address; there must be one.
func askOnce(c net.Conn, id uint16, name string) error {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.Id = id
	raw, err := m.Pack()
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(dnsPatience)); err != nil {
		return err
	}
	if _, err := c.Write(raw); err != nil {
		return err
	}
	buf := make([]byte, 512)
	for {
		k, err := c.Read(buf)
		if err != nil {
			return err
		}
		var got dns.Msg
		if err := got.Unpack(buf[:k]); err != nil {
			return err
		}
		if got.Id != id {
			continue // late, of a query that was given up
		}
		if len(got.Answer) != 1 {
			return errors.New("no address of " + name + ", but " + strconv.Itoa(len(got.Answer)) + " records")
		}
		return nil
	}
}

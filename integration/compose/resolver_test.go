package compose

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/miekg/dns"

	"github.com/brigd/brig/integration/internal/testbed"
)

const hostConf = "/etc/resolv.conf"

// resolver is the host's name server for these tests: at 127.0.0.1:53 of their own network. It knows outside.test and nothing else, and says so at once.
type resolver struct {
	servers []*dns.Server
	former  []byte // of the host's resolv.conf
	wait    sync.WaitGroup
}

// startResolver also has /etc/resolv.conf name it: in this mount namespace alone, where there are such, else until Close puts the host's back.
func startResolver(dir string) (*resolver, error) {
	text := []byte("nameserver 127.0.0.1\n")
	former, err := os.ReadFile(hostConf)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	p, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	r := &resolver{former: former, servers: []*dns.Server{{Listener: l, Handler: dns.HandlerFunc(answer)}, {PacketConn: p, Handler: dns.HandlerFunc(answer)}}}
	for _, s := range r.servers {
		r.wait.Go(func() { s.ActivateAndServe() })
	}
	if !testbed.Separate {
		if err = os.WriteFile(hostConf, text, 0o644); err != nil {
			r.Close()
		}
		return r, err
	}
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"mount", "--make-rprivate", "/"}, {"mount", "--bind", conf, hostConf}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return r, nil
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) == 1 && q.Question[0].Name == "outside.test." {
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "outside.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 53)}}
		}
	} else {
		m.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(m)
}

func (r *resolver) Close() {
	for _, s := range r.servers {
		s.Shutdown()
	}
	r.wait.Wait()
	if !testbed.Separate {
		os.WriteFile(hostConf, r.former, 0o644)
		return
	}
	exec.Command("umount", hostConf).Run()
}

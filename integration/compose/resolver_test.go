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
)

// resolver is the host's name server for these tests: at 127.0.0.1:53 of their own network. It knows outside.test and nothing else, and says so at once.
type resolver struct {
	servers []*dns.Server
	wait    sync.WaitGroup
}

// startResolver also has /etc/resolv.conf name it, in this mount namespace alone.
func startResolver(dir string) (*resolver, error) {
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"mount", "--make-rprivate", "/"}, {"mount", "--bind", conf, "/etc/resolv.conf"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	p, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	r := &resolver{servers: []*dns.Server{{Listener: l, Handler: dns.HandlerFunc(answer)}, {PacketConn: p, Handler: dns.HandlerFunc(answer)}}}
	for _, s := range r.servers {
		r.wait.Go(func() { s.ActivateAndServe() })
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
	exec.Command("umount", "/etc/resolv.conf").Run()
}

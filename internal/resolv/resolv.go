// Package resolv reads the host's resolv.conf(5) and makes containers' of it.
package resolv

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// The host's files.
const (
	hostFile     = "/etc/resolv.conf"
	systemdProxy = "/run/systemd/resolve/resolv.conf" // the real servers, where the host's file names systemd-resolved's 127.0.0.53
)

// Embedded is where containers of user-defined networks find their DNS server, if it isn't the host's address in them.
const Embedded = "127.0.0.11"

// maxServers is how many servers a resolv.conf(5) may name (MAXNS).
const maxServers = 3

// public are the servers of a container where the host has none that it can reach, as dockerd has it.
var public = []string{"8.8.8.8", "8.8.4.4"}

// For returns the text of a container's resolv.conf. host: it has the host's network. own: where it finds DNS servers of brig's.
func For(dns brig.DNS, host bool, own []string) (string, error) {
	text, err := os.ReadFile(hostFile)
	if err != nil && !os.IsNotExist(err) {
		return "", errs.Wrap(err, "read the host's resolv.conf")
	}
	if !host && len(own) == 0 {
		text = real(text)
	}
	return Merge(string(text), dns, host, own), nil
}

// real is the file with the true servers, where text names systemd-resolved alone.
func real(text []byte) []byte {
	if strings.Contains(string(text), "127.0.0.53") {
		if better, err := os.ReadFile(systemdProxy); err == nil {
			return better
		}
	}
	return text
}

// conf is what a resolv.conf says.
type conf struct{ servers, search, options []string }

func parse(text string) (c conf) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			c.servers = append(c.servers, f[1])
		case "search", "domain": // the last one counts
			c.search = f[1:]
		case "options":
			c.options = append(c.options, f[1:]...)
		}
	}
	return c
}

// Merge puts a request's settings over the host's text. Outside the host's network, servers on its loopback are of no use and left
// out; if that leaves none, public ones are named.
func Merge(text string, dns brig.DNS, host bool, own []string) string {
	if host && len(dns.Servers)+len(dns.Search)+len(dns.Options) == 0 {
		return text
	}
	c := parse(text)
	c.servers = slices.DeleteFunc(c.servers, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || (!host && a.IsLoopback())
	})
	if len(dns.Servers) > 0 {
		c.servers = dns.Servers
	}
	if len(c.servers) == 0 {
		c.servers = public
	}
	if len(dns.Search) > 0 {
		c.search = dns.Search
	}
	if len(dns.Options) > 0 {
		c.options = dns.Options
	}
	if len(own) > 0 {
		c.servers = own[:min(len(own), maxServers)]
		if !slices.ContainsFunc(c.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			c.options = append(slices.Clone(c.options), "ndots:0")
		}
	}
	var b strings.Builder
	for _, s := range c.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.search) > 0 && !slices.Equal(c.search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.search, " "))
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.options, " "))
	}
	return b.String()
}

// Upstream lists the servers that a container's own one forwards to, and which of them are to be asked from the host's network
// since they are on its loopback. asked are those of a request.
func Upstream(asked []string) (servers []string, fromHost []bool) {
	if len(asked) > 0 {
		return asked, make([]bool, len(asked))
	}
	text, _ := os.ReadFile(hostFile) // without one there are the public servers
	for _, s := range parse(string(text)).servers {
		if a, err := netip.ParseAddr(s); err == nil {
			servers, fromHost = append(servers, s), append(fromHost, a.IsLoopback())
		}
	}
	if len(servers) == 0 {
		return public, make([]bool, len(public))
	}
	return servers, fromHost
}

// Options are those that a container's resolv.conf has.
func Options(dns brig.DNS) []string {
	if len(dns.Options) > 0 {
		return dns.Options
	}
	text, _ := os.ReadFile(hostFile)
	return parse(string(text)).options
}

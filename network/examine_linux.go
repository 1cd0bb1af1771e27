package network

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (h *host) isVeth(name string) bool { return strings.HasPrefix(name, h.vethPrefix()) }

// strays lists links by name and namespaces by path that belong to nobody. keep gives each container its links, bridges are those of
// all networks.
func (h *host) strays(keep map[brig.ID][]string, bridges map[string]bool) (out []string, err error) {
	names, files := map[string]bool{}, map[string]bool{}
	for id, links := range keep {
		files[h.netnsPath(id)] = true
		for _, name := range links {
			names[name] = true
		}
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, errs.Wrap(err, "list links")
	}
	for _, l := range links {
		a := l.Attrs()
		bridge := a.Alias == h.alias() || a.Name == h.bridgeName() || strings.HasPrefix(a.Name, h.bridgePrefix())
		if (h.isVeth(a.Name) && !names[a.Name]) || (bridge && !bridges[a.Name]) {
			out = append(out, a.Name)
		}
	}
	entries, _ := os.ReadDir(h.dir)
	for _, e := range entries {
		if path := filepath.Join(h.dir, e.Name()); !files[path] {
			out = append(out, path)
		}
	}
	return out, nil
}

// scrap deletes a link or a namespace that strays has listed.
func (h *host) scrap(name string) error {
	if strings.HasPrefix(name, "/") {
		return h.removeNetns(name)
	}
	return h.removeLink(name)
}

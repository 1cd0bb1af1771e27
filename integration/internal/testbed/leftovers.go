package testbed

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Instance is the id by which brigd names all that it makes on the host. Preconditions: Owned, and started once.
func (s *Server) Instance() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.Root, "instance"))
	return strings.TrimSpace(string(b)), err
}

// Leftovers lists what the server's instance has on the host: mounts beneath its root, processes (but brigd), links, folders of
// containers, and what its system isolates containers by: cgroups, network namespaces and tables of nftables, or jails, limits and rules
// of pf. With stopped, brigd does not run any more and not even its bridge may be there, nor brig-mds, which lives as long as brigd.
func (s *Server) Leftovers(stopped bool) ([]string, error) {
	id, err := s.Instance()
	if err != nil {
		return nil, err
	}
	left, err := s.hostLeft(id, stopped)
	if err != nil {
		return nil, err
	}
	for _, find := range []func(id string) ([]string, error){s.mounts, s.processes, s.folders} {
		found, err := find(id)
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	if !stopped {
		left = slices.DeleteFunc(left, func(l string) bool {
			return strings.HasPrefix(l, "process ") && strings.Contains(l, "brig-mds --dir ")
		})
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "v"+id[:4]+"-") {
			left = append(left, "link "+l.Name)
		} else if stopped && (l.Name == "brig-"+id || strings.HasPrefix(l.Name, "br"+id[:4]+"-") || mark(l) == "brig_"+id) {
			left = append(left, "bridge "+l.Name)
		}
	}
	return left, nil
}

// Links counts what containers of the instance have at its bridges; bridges, those of users' networks.
func (s *Server) Links() (links, bridges int, err error) {
	id, err := s.Instance()
	if err != nil {
		return 0, 0, err
	}
	list, err := net.Interfaces()
	for _, l := range list {
		if strings.HasPrefix(l.Name, "v"+id[:4]+"-") {
			links++
		} else if strings.HasPrefix(l.Name, "br"+id[:4]+"-") {
			bridges++
		}
	}
	return links, bridges, err
}

func (s *Server) mounts(string) (left []string, err error) {
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.Root))
	for _, m := range list {
		if m.Mountpoint != s.Root {
			left = append(left, "mount "+m.Mountpoint)
		}
	}
	return left, err
}

// rootsAgain is the folder in which jails have their mounts on FreeBSD, one by one.
const rootsAgain = "run/.roots"

// folders are those of containers and jails.
func (s *Server) folders(string) (left []string, err error) {
	for _, sub := range []string{"containers", "run", rootsAgain, "pods"} {
		entries, _ := os.ReadDir(filepath.Join(s.Root, sub))
		for _, e := range entries {
			if sub+"/"+e.Name() == rootsAgain {
				continue
			}
			left = append(left, "folder "+sub+"/"+e.Name())
		}
	}
	return left, nil
}

// StorageLeft counts the writable layers of containers that the store knows, by what the overlay and copy drivers keep:
// folders in store/c. What another driver keeps counts as none.
func (s *Server) StorageLeft() int {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "store", "c"))
	return len(entries)
}

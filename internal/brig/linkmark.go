package brig

import "strings"

// LinkMark is the description of what an instance has on a FreeBSD host: of its bridges with the instance alone, of the host's end of a container's
// link with all of it.
type LinkMark struct {
	Instance  string
	Container string // the first 16 digits of its ID
	Endpoint  string // the first 8 digits of its ID
	Iface     string // the other end's name, inside
}

func (m LinkMark) String() string {
	if m.Container == "" {
		return "brig_" + m.Instance
	}
	return "brig_" + m.Instance + ":" + m.Container + ":" + m.Endpoint + ":" + m.Iface
}

// ParseLinkMark reads a link's description; ok is false for what is none of brig's. Those that earlier versions made have no Iface.
func ParseLinkMark(s string) (m LinkMark, ok bool) {
	s, ok = strings.CutPrefix(s, "brig_")
	f := strings.SplitN(s, ":", 4)
	if !ok || len(f) < 3 {
		return m, false
	}
	m = LinkMark{Instance: f[0], Container: f[1], Endpoint: f[2]}
	if len(f) == 4 {
		m.Iface = f[3]
	}
	return m, true
}

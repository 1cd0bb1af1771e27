package hostcheck

import (
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// A Pool is one of ZFS.
type Pool struct {
	Name, Health string
	Used         int // percent
}

// ParsePools reads what "zpool list -Hp -o name,health,capacity" prints.
func ParsePools(text string) (out []Pool, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, errs.New(errs.Internal, "zpool says %q, which is not a name, a health and a capacity", line)
		}
		used, err := strconv.Atoi(strings.TrimSuffix(f[2], "%"))
		if err != nil && f[2] != "-" { // a pool that is faulted has none
			return nil, errs.New(errs.Internal, "zpool says %q of its capacity: %w", line, err)
		}
		out = append(out, Pool{f[0], f[1], used})
	}
	return out, nil
}

// A NIC is a network interface and what its hardware does for it.
type NIC struct {
	Name    string
	Options []string // as ifconfig(8) names them: RXCSUM, TXCSUM, TSO4, LRO
}

func (n NIC) has(option string) bool { return slices.Contains(n.Options, option) }

// ParseNICs reads what ifconfig(8) prints of all interfaces; of each one the line "options=…<…>" matters.
func ParseNICs(text string) (out []NIC) {
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ": flags="); ok && line[0] != '\t' && line[0] != ' ' {
			out = append(out, NIC{Name: name})
			continue
		}
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "options="); ok && len(out) > 0 {
			_, list, _ := strings.Cut(strings.TrimSuffix(rest, ">"), "<")
			out[len(out)-1].Options = strings.Split(list, ",")
		}
	}
	return out
}

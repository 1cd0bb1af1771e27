package elfcheck

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

// The tables are what gapgen prints of the sources that each names in its first line.
//
//go:embed gaps-*.txt
var tables embed.FS

// versions are the tables by the __FreeBSD_version from which on each is the best there is.
var versions = []struct {
	from int
	file string
	name string
}{{1302000, "gaps-13.2.txt", "13.2"}, {1400000, "gaps-14.txt", "14"}, {1500000, "gaps-15.txt", "15"}}

// A gap is a system call of Linux that the Linux ABI of a FreeBSD lacks.
type gap struct {
	name    string
	numbers map[string]int // by architecture; one that isn't there has the call, or Linux hasn't it either
	errno   string
}

// gaps are all that one FreeBSD lacks.
type gaps struct {
	source string
	note   string // why the table may not be this host's; "" if it is
	last   map[string]int
	list   []gap
}

// gapsFor chooses the table for a host; of Linux it is empty.
func gapsFor(h Host) (*gaps, error) {
	if h.OS != "freebsd" {
		return &gaps{}, nil
	}
	use := versions[0]
	for _, v := range versions {
		if h.Version >= v.from {
			use = v
		}
	}
	b, err := tables.ReadFile(use.file)
	if err != nil {
		return nil, err
	}
	g, err := parseGaps(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", use.file, err)
	}
	switch major, minor := h.Version/100000, h.Version/1000%100; {
	case h.Version < versions[0].from:
		g.note = "the table is 13.2's: an older system lacks more"
	case use.name != "13.2":
		g.note = "the table is made of the development of FreeBSD " + use.name + ": a release may differ from it a little"
	case major != 13 || minor != 2:
		g.note = "the table is 13.2's: a newer system may lack less"
	}
	return g, nil
}

// parseGaps reads what gapgen prints: the source, the last number of each architecture, and a line for each call: its name, its number on amd64
// and on arm64 ("-" for none), and the error that it answers with.
func parseGaps(text string) (*gaps, error) {
	g := &gaps{last: map[string]int{}}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "source":
			g.source = strings.TrimSpace(strings.TrimPrefix(line, "source"))
			continue
		case len(f) == 3 && f[0] == "last":
			n, err := strconv.Atoi(f[2])
			if err != nil {
				return nil, err
			}
			g.last[f[1]] = n
			continue
		case len(f) != 4:
			return nil, fmt.Errorf("line %q has another form", line)
		}
		e := gap{f[0], map[string]int{}, f[3]}
		for i, arch := range []string{"amd64", "arm64"} {
			if f[i+1] == "-" {
				continue
			}
			n, err := strconv.Atoi(f[i+1])
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", line, err)
			}
			e.numbers[arch] = n
		}
		g.list = append(g.list, e)
	}
	if g.source == "" || len(g.last) == 0 || len(g.list) == 0 {
		return nil, fmt.Errorf("it is not whole")
	}
	return g, nil
}

// Package elfcheck says, without executing anything, whether the programs of an image will run on a host: it reads their ELF headers, what
// they load, and which system calls they can make, and compares that with what the host's kernel has and what brig's jails allow.
//
// What a program can do is not what it does. So a missing system call alone never means "will not": that is said only where the kernel or
// the loader refuses the program, or where a program is named for the very thing that is missing (insmod, nsenter). A call that programs try
// and do without (io_uring) is a note, any other one makes the program "degraded". What can't be seen: calls by a number that is computed,
// what a script executes, what is downloaded or compiled later.
package elfcheck

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Verdict is how a program, or an image, will do.
type Verdict string

// The verdicts, from good to bad.
const (
	WillRun  Verdict = "will run"
	Degraded Verdict = "degraded"
	WillNot  Verdict = "will not"
)

func (v Verdict) rank() int { return slices.Index([]Verdict{WillRun, Degraded, WillNot}, v) }

// Reason is one thing that was found. Its Verdict is what it alone makes of a program: WillRun for what is worth knowing and no more.
type Reason struct {
	Verdict Verdict
	What    string // a system call, a permission of jails (allow.mlock), a file; "" if Why says it all
	Why     string
}

// File is one program of an image.
type File struct {
	Path        string // in the image, links resolved
	Platform    string // os/arch that it was built for; only /arch if nothing in it says for what system
	Static      bool
	Interpreter string `json:",omitempty"` // the dynamic linker that it asks for
	Requires    int    `json:",omitempty"` // __FreeBSD_version that it was built on
	Verdict     Verdict
	Reasons     []Reason
}

// Counts are of programs.
type Counts struct{ WillRun, Degraded, WillNot int }

// Report is the answer about an image.
type Report struct {
	Image, ID string // as asked for; the image's digest
	Platform  string // the image's
	Host      string // os/release/arch
	Table     string // where the list of missing system calls comes from; "" if none was needed
	Verdict   Verdict
	Reasons   []Reason
	Entry     []File // what Entrypoint and Cmd start, and the interpreters of scripts among them
	All       Counts // all programs of the image, those of Entry among them
	Others    []File // programs that are not in Entry and will not, or not fully, run; sorted by path
}

// Image is what of an image's config matters.
type Image struct {
	Ref, ID, OS, Arch string
	Entrypoint, Cmd   []string
	Env               []string
	Dir               string // working directory
}

// Check looks at the image whose tree is at dir, which nobody else changes.
func Check(ctx context.Context, dir string, img Image, host Host) (*Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := &tree{root: root}
	r := &Report{Image: img.Ref, ID: img.ID, Platform: img.OS + "/" + img.Arch, Host: host.String(), Verdict: WillRun, Reasons: []Reason{}, Entry: []File{}, Others: []File{}}
	j := &judge{tree: t, host: host, img: img, files: map[string]*object{}}
	if j.gaps, err = gapsFor(host); err != nil {
		return nil, err
	}
	if bad := host.refuses(img.OS, img.Arch); bad != nil {
		r.add(*bad)
	}
	programs, err := t.programs(ctx)
	if err != nil {
		return nil, err
	}
	starts, reasons := j.entry()
	for _, re := range reasons {
		r.add(re)
	}
	for _, path := range programs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, ok := j.file(path, starts[path])
		if !ok {
			continue
		}
		r.count(f.Verdict)
		_, first := starts[path]
		switch {
		case first:
			r.Entry = append(r.Entry, f)
		case f.Verdict != WillRun:
			r.Others = append(r.Others, f)
		}
	}
	r.conclude(len(starts))
	if host.OS == "freebsd" && j.usedGaps {
		r.Table = j.gaps.source
		if j.gaps.note != "" {
			r.add(Reason{WillRun, "", j.gaps.note})
		}
	}
	return r, nil
}

func (r *Report) add(re Reason) {
	r.Reasons = append(r.Reasons, re)
	if re.Verdict.rank() > r.Verdict.rank() {
		r.Verdict = re.Verdict
	}
}

func (r *Report) count(v Verdict) {
	switch v {
	case WillRun:
		r.All.WillRun++
	case Degraded:
		r.All.Degraded++
	case WillNot:
		r.All.WillNot++
	}
}

// conclude makes the image's verdict: that of the worst program which it starts with; if it doesn't say with what, all its programs count.
func (r *Report) conclude(starts int) {
	n := r.All.WillRun + r.All.Degraded + r.All.WillNot
	switch {
	case n == 0:
		r.add(Reason{WillRun, "", "no program was found in the image"})
	case starts == 0 && r.All.WillNot == n:
		r.add(Reason{WillNot, "", "none of its programs will run"})
	case starts == 0 && r.All.WillRun < n:
		r.add(Reason{Degraded, "", fmt.Sprintf("%d of its %d programs will run, %d are degraded", r.All.WillRun, n, r.All.Degraded)})
	}
	for _, f := range r.Entry {
		if f.Verdict.rank() > r.Verdict.rank() {
			r.Verdict = f.Verdict
		}
	}
	byPath := func(a, b File) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(r.Entry, byPath)
	slices.SortFunc(r.Others, byPath)
}

// String is a reason in one line.
func (re Reason) String() string { return strings.TrimPrefix(re.What+": "+re.Why, ": ") }

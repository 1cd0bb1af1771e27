package elfcheck

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A judge makes verdicts of files.
type judge struct {
	tree     *tree
	host     Host
	img      Image
	gaps     *gaps
	files    map[string]*object // libraries that have been read; nil: one that can't be
	usedGaps bool
}

// file judges the file at name, as if it were started by one of as: the names it has then, its own if there are none. ok is false
// for what is no program.
func (j *judge) file(name string, as []string) (f File, ok bool) {
	defer func() {
		// debug/elf isn't hardened against hostile files, as its documentation says.
		if p := recover(); p != nil {
			f, ok = File{Path: name, Verdict: WillNot, Reasons: []Reason{{WillNot, "", fmt.Sprintf("it can't be read: %v", p)}}}, true
		}
	}()
	f = File{Path: name, Verdict: WillRun, Reasons: []Reason{}}
	o, err := j.tree.read(name)
	if err != nil {
		f.add(Reason{WillNot, "", "it can't be read: " + err.Error()})
		return f, errors.Is(err, errNotELF) && len(as) > 0
	}
	if !o.program && len(as) == 0 {
		return f, false
	}
	j.program(&f, o, as)
	return f, true
}

func (f *File) add(r Reason) {
	f.Reasons = append(f.Reasons, r)
	if r.Verdict.rank() > f.Verdict.rank() {
		f.Verdict = r.Verdict
	}
}

func (j *judge) program(f *File, o *object, as []string) {
	f.Platform, f.Static, f.Interpreter, f.Requires = o.os+"/"+o.arch, o.interp == "", o.interp, o.requires
	if bad := j.host.refuses(o.os, o.arch); bad != nil {
		f.add(*bad)
		if bad.Verdict == WillNot {
			return
		}
	}
	j.unbranded(f, o)
	j.age(f, o)
	if o.interp != "" {
		if _, info, err := j.tree.resolve(o.interp); err != nil || !info.Mode().IsRegular() {
			f.add(Reason{WillNot, o.interp, "its dynamic linker isn't in the image"})
			return
		}
	}
	libs := j.libraries(f, o)
	if j.host.OS == "freebsd" {
		j.calls(f, o, libs, as)
	}
	if o.calls.skipped != "" {
		f.add(Reason{WillRun, "", o.calls.skipped + " are too large to be looked at"})
	}
}

// unbranded judges a program that doesn't say what system it is for, as Go's linker and musl's static programs for Linux don't: FreeBSD
// takes it for what kern.elf64.fallback_brand says (sys/kern/imgact_elf.c), and refuses it if that is -1, as it is by default. brigd sets it for the
// first container of Linux's, unless it is set or load-modules is off.
func (j *judge) unbranded(f *File, o *object) {
	if o.os != "" || j.host.OS != "freebsd" {
		return
	}
	const what, unset, linux = "kern.elf64.fallback_brand", -1, 3
	switch {
	case !j.host.BrandKnown || j.host.Brand == unset:
		f.add(Reason{WillRun, what, "it doesn't say that it is for Linux: this sysctl must be 3, and brigd sets it unless it may load no modules (load-modules)"})
	case j.host.Brand != linux:
		f.add(Reason{WillNot, what, fmt.Sprintf("it doesn't say that it is for Linux, and this sysctl is %d, not 3", j.host.Brand)})
	}
}

// age compares what FreeBSD a program was made for with the host's.
func (j *judge) age(f *File, o *object) {
	if o.os != "freebsd" || o.requires == 0 || j.host.OS != "freebsd" {
		return
	}
	major, minor := func(v int) int { return v / 100000 }, func(v int) int { return v / 1000 }
	switch {
	case major(o.requires) > major(j.host.Version):
		f.add(Reason{WillNot, fmt.Sprintf("__FreeBSD_version %d", o.requires), fmt.Sprintf("it was made for FreeBSD %d, and the host is %s: its C library calls what an older kernel lacks", major(o.requires), j.host.Release)})
	case minor(o.requires) > minor(j.host.Version):
		f.add(Reason{Degraded, fmt.Sprintf("__FreeBSD_version %d", o.requires), fmt.Sprintf("it was made for FreeBSD %d.%d, and the host is %s: what is new there may fail", major(o.requires), minor(o.requires)%100, j.host.Release)})
	}
}

// libraries finds all that a program loads, and says what is missing. The C library's own are left out of what it returns.
func (j *judge) libraries(f *File, o *object) (out []*object) {
	env := ""
	for _, e := range j.img.Env {
		if v, ok := strings.CutPrefix(e, "LD_LIBRARY_PATH="); ok {
			env = v
		}
	}
	seen := map[string]bool{}
	var load func(by *object)
	load = func(by *object) {
		for _, name := range by.needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			at, _ := j.tree.library(by, name, env)
			if at == "" {
				if libcs(name) && strings.HasPrefix(path.Base(o.interp), "ld-musl") {
					continue // musl's linker is its C library, by whatever name
				}
				why := "this library isn't in the image"
				if by != o {
					why += "; " + path.Base(by.path) + " needs it"
				}
				f.add(Reason{WillNot, name, why})
				continue
			}
			lib := j.object(at)
			if lib == nil || libcs(name) {
				continue
			}
			out = append(out, lib)
			load(lib)
		}
	}
	load(o)
	return out
}

// object reads a library, once.
func (j *judge) object(at string) *object {
	if o, ok := j.files[at]; ok {
		return o
	}
	o, err := j.tree.read(at)
	if err != nil {
		o = nil // then the loader will say so; linker scripts and the like lie among libraries too
	}
	j.files[at] = o
	return o
}

// multicall is from how many further names on a program is taken for many in one.
const multicall = 8

// calls says which system calls a program may make that the host lacks, or refuses in a jail.
func (j *judge) calls(f *File, o *object, libs []*object, as []string) {
	names := as
	if len(names) == 0 {
		names = []string{path.Base(f.Path)}
	}
	many := j.tree.many[f.Path] >= multicall
	said := map[string]bool{}
	say := func(what string, e effect, by string) {
		key := e.why
		about := slices.ContainsFunc(names, func(n string) bool { return slices.Contains(e.about, path.Base(n)) })
		switch r := (Reason{Degraded, what, e.why}); {
		case about && !said["about "+key]:
			key = "about " + key
			r.Verdict = WillNot
			f.add(r)
		case about || said[key] || by != "" && said["lib "+key]: // one of several calls for one thing is enough, and one library
		case by != "":
			key = "lib " + key
			r.Verdict, r.Why = WillRun, e.why+" (in "+by+")"
			f.add(r)
		case many:
			r.Verdict, r.Why = WillRun, e.why+" (in some of the programs that it is)"
			f.add(r)
		case e.try:
			r.Verdict, r.Why = WillRun, e.why+" (programs do without)"
			f.add(r)
		default:
			f.add(r)
		}
		said[key] = true
	}
	all := slices.Concat([]*object{o}, libs)
	for _, l := range limits {
		what := l.permission
		if what == "" {
			what = l.calls[0]
		}
		e := l.effect
		if l.capability != "" {
			e.why += "; --cap-add " + l.capability + " gives it"
		}
		for _, x := range all {
			if x.calls.any(l.calls, l.numbers[o.arch]) {
				say(what, e, by(x, o))
			}
		}
	}
	if slices.ContainsFunc(names, func(n string) bool { return slices.Contains(rawSockets, path.Base(n)) }) {
		f.add(Reason{WillRun, "allow.raw_sockets", "it has this in networks of the container's own, and with --cap-add NET_RAW in the host's"})
	}
	if o.os == "freebsd" {
		return
	}
	if o.calls.names["syscall"] {
		f.add(Reason{WillRun, "syscall", "it makes system calls by numbers that aren't seen here"})
	}
	j.usedGaps = true
	for _, g := range j.gaps.list {
		number, lacking := g.numbers[o.arch]
		if nowhere[g.name] || !lacking {
			continue
		}
		e := effects[g.name]
		for _, x := range all {
			if x.calls.has(g.name, e.aliases, number) {
				say(g.name, e, by(x, o))
			}
		}
	}
	if newer := o.calls.beyond(j.gaps.last[o.arch]); len(newer) > 0 && j.gaps.last[o.arch] > 0 {
		f.add(Reason{WillRun, "", fmt.Sprintf("system calls %v are newer than the host's Linux ABI (programs do without)", newer)})
	}
}

// by names the library that a call is in; "" for the program itself.
func by(x, o *object) string {
	if x == o {
		return ""
	}
	return path.Base(x.path)
}

// any reports whether one of the functions or numbers is among the calls.
func (c *calls) any(names []string, numbers []int) bool {
	return slices.ContainsFunc(names, func(n string) bool { return c.has(n, nil, -1) }) ||
		slices.ContainsFunc(numbers, func(n int) bool { return c.numbers[n] })
}

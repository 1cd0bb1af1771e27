package hostcheck

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A version is what a kernel or userland calls itself.
type version struct {
	major, minor int
	kind         string // RELEASE, STABLE, CURRENT, RC1 and the like
	patch        int    // of a release
}

var versionRE = regexp.MustCompile(`^(\d+)\.(\d+)-([A-Z]+\d*)(?:-p(\d+))?$`)

// parseVersion reads "14.4-RELEASE-p6".
func parseVersion(s string) (v version, ok bool) {
	m := versionRE.FindStringSubmatch(s)
	if m == nil {
		return v, false
	}
	v.kind = m[3]
	for i, n := range []*int{1: &v.major, 2: &v.minor, 4: &v.patch} {
		if n != nil && m[i] != "" {
			*n, _ = strconv.Atoi(m[i]) // digits; what is too large stays the largest
		}
	}
	return v, true
}

func (v version) release() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor), cmp.Compare(v.patch, w.patch))
}

// update is how FreeBSD is brought up to date: one way for what was installed from packages, one for the rest (the advisories, part V).
const update = "freebsd-update fetch install; shutdown -r now (installed from base packages: pkg upgrade -r FreeBSD-base)"

// patches compares the kernel that runs with the advisories.
func (j *judge) patches() {
	if j.Running == "" {
		return
	}
	v, ok := parseVersion(j.Running)
	switch branch, commits := stableCommits(j.Version); {
	case ok && v.kind == "RELEASE":
		j.released(v)
	case ok && v.kind == "STABLE" && branch == v.major:
		j.lacking(func(a advisory) bool { return commits < a.stable[branch] })
	default:
		j.note("patches", "", "whether %s has the fixes of FreeBSD's security advisories can't be told", j.Running)
	}
	if w, ok2 := parseVersion(j.Installed); ok && ok2 && w.kind == "RELEASE" && v.kind == "RELEASE" && v.compare(w) < 0 {
		j.note("kernel", "shutdown -r now", "%s runs, and %s is installed", j.Running, j.Installed)
	}
	if w, ok2 := parseVersion(j.Userland); ok && ok2 && w.release() != v.release() {
		j.note("userland", "freebsd-update install", "it is %s, and the kernel %s: an upgrade has not come to its end", j.Userland, j.Running)
	}
}

// released judges a release: it may be one that gets no fixes any more, or one that came after all that is known here.
func (j *judge) released(v version) {
	if to := successor(v); to != "" {
		j.note("patches", "freebsd-update -r "+to+"-RELEASE upgrade",
			"FreeBSD %s gets no fixes any more: %s of %s (%s) is not the only one that it lacks", v.release(), newest().name, LastRead, newest().what)
	}
	j.lacking(func(a advisory) bool { return v.patch < a.fixed[v.release()] })
}

// successor is the release to upgrade to from one that gets no fixes any more; "" for others, and for those that came after all supported ones.
func successor(v version) string {
	if slices.Contains(supported, v.release()) {
		return ""
	}
	for _, s := range supported { // from the newest down
		if w, _ := parseVersion(s + "-RELEASE"); w.major <= v.major {
			if w.major == v.major && w.minor > v.minor {
				return s
			}
			return ""
		}
	}
	last, _ := parseVersion(supported[len(supported)-1] + "-RELEASE")
	for _, s := range supported { // older than all branches: the newest of the oldest one
		if w, _ := parseVersion(s + "-RELEASE"); w.major == last.major {
			return s
		}
	}
	return ""
}

// lacking notes the advisories whose fix the kernel lacks: ways out of a jail by name and matter, ways into the kernel by name.
func (j *judge) lacking(lacks func(advisory) bool) {
	var out, in []string
	for _, a := range slices.Backward(advisories) {
		switch {
		case a.arch != "" && a.arch != j.Arch || !lacks(a):
		case a.jail:
			out = append(out, a.name+" ("+a.what+")")
		default:
			in = append(in, a.name+" ("+a.what+")")
		}
	}
	for _, part := range []struct {
		names []string
		what  string
	}{{out, "out of a jail"}, {in, "for an unprivileged process to the kernel or to root"}} {
		if len(part.names) > 0 {
			j.note("patches", update, "%s, which runs, lacks the fixes of known ways %s: %s", j.Running, part.what, strings.Join(part.names, ", "))
		}
	}
}

var stableRE = regexp.MustCompile(`\bstable/(\d+)-n(\d+)-`)

// stableCommits reads of kern.version how many commits a stable branch had; 0 without any.
func stableCommits(text string) (branch, commits int) {
	if m := stableRE.FindStringSubmatch(text); m != nil {
		branch, _ = strconv.Atoi(m[1])
		commits, _ = strconv.Atoi(m[2])
	}
	return branch, commits
}

package elfcheck

import (
	"debug/elf"
	"path"
	"regexp"
	"slices"
	"strings"
)

// libc are the C library's own parts: what they can do says nothing of what a program does with them.
var libc = regexp.MustCompile(`^(ld-|ld64|ld\.so|libc\.|libc-|libc\.musl|libm\.|libmvec\.|libdl\.|librt\.|libpthread\.|libthr\.|libresolv\.|libutil\.|libnsl\.|libnss_|libanl\.|libcrypt\.|libgcc_s\.|libstdc\+\+\.|libc\+\+\.|libcxxrt\.|libsys\.)`)

func libcs(base string) bool { return libc.MatchString(base) }

// multiarch are Debian's names of directories below /lib and /usr/lib.
var multiarch = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "386": "i386-linux-gnu", "arm": "arm-linux-gnueabihf", "riscv64": "riscv64-linux-gnu",
	"ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu",
}

// library finds the library that o needs, as its dynamic linker would; "" if it is nowhere. found is false if it lies where the linker isn't known to
// look. The order of the places doesn't matter: which of several is taken is not what is asked.
func (t *tree) library(o *object, name, env string) (at string, found bool) {
	if strings.Contains(name, "/") {
		if to, info, err := t.resolve(name); err == nil && info.Mode().IsRegular() {
			return to, true
		}
		return "", false
	}
	dirs := slices.Concat(o.runpath, strings.Split(env, ":"), t.libraryDirs(o))
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if to, info, err := t.resolve(path.Join(dir, name)); err == nil && info.Mode().IsRegular() && t.machine(to) == o.arch {
			return to, true // linkers pass over libraries for other machines
		}
	}
	for _, elsewhere := range t.elfs[name] {
		if t.machine(elsewhere) == o.arch {
			return elsewhere, false
		}
	}
	return "", false
}

// machine is the architecture that an ELF file is for; "" if it can't be read.
func (t *tree) machine(at string) string {
	f, _, err := t.open(at)
	if err != nil {
		return ""
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	defer e.Close()
	return architecture(e)
}

// libraryDirs are the places of the system's own libraries: built in (ld.so(8), rtld(1), musl's ldso/dynlink.c) and configured.
func (t *tree) libraryDirs(o *object) []string {
	if d, ok := t.dirs[o.os+"/"+o.arch]; ok {
		return d
	}
	dirs := []string{"/lib", "/usr/lib", "/usr/local/lib"}
	if o.os == "freebsd" {
		for _, f := range []string{"/etc/ld-elf.so.conf"} {
			text, _ := t.text(f, 1<<16) // most have none
			dirs = append(dirs, strings.Fields(text)...)
		}
		for _, d := range []string{"/usr/local/libdata/ldconfig"} {
			for _, f := range t.list(d) {
				text, _ := t.text(f, 1<<16) // what can't be read adds nothing
				dirs = append(dirs, strings.Fields(text)...)
			}
		}
	} else {
		dirs = append(dirs, "/lib64", "/usr/lib64", "/lib32", "/usr/lib32")
		if m := multiarch[o.arch]; m != "" {
			dirs = append(dirs, "/lib/"+m, "/usr/lib/"+m, "/usr/local/lib/"+m)
		}
		for _, f := range t.list("/etc") {
			if strings.HasPrefix(path.Base(f), "ld-musl-") && strings.HasSuffix(f, ".path") {
				text, _ := t.text(f, 1<<16) // likewise
				dirs = append(dirs, strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '\n' })...)
			}
		}
		dirs = append(dirs, t.ldConf("/etc/ld.so.conf", 0)...)
	}
	if t.dirs == nil {
		t.dirs = map[string][]string{}
	}
	t.dirs[o.os+"/"+o.arch] = dirs
	return dirs
}

// ldConf reads ld.so.conf, as ldconfig(8) has it: a directory a line, and include PATTERN.
func (t *tree) ldConf(file string, depth int) (dirs []string) {
	text, err := t.text(file, 1<<16)
	if err != nil || depth > 4 {
		return nil
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "include":
			pattern := f[1]
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(file), pattern)
			}
			for _, at := range t.list(path.Dir(pattern)) {
				if ok, err := path.Match(path.Base(pattern), path.Base(at)); ok && err == nil {
					dirs = append(dirs, t.ldConf(at, depth+1)...)
				}
			}
		case len(f) == 1:
			dirs = append(dirs, f[0])
		}
	}
	return dirs
}

// list gives the names in a directory; none if there is no such.
func (t *tree) list(dir string) (out []string) {
	at, info, err := t.resolve(dir)
	if err != nil || !info.IsDir() {
		return nil
	}
	d, err := t.root.Open(path.Join(".", at))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	for _, n := range names {
		out = append(out, path.Join(dir, n))
	}
	return out
}

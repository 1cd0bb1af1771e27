package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A buildCase is one build of the table: testdata/build/TOPIC.txt has them, each with the files of its context.
//
//	=== name
//	args: more arguments of docker build
//	cache: yes                             without it, docker build gets --no-cache
//	twice: yes                             it is built twice, and the second build is looked at
//	stdin: Dockerfile | tar                what docker build reads in place of a context
//	api: QUERY                             POST /build?QUERY, with an empty body, in place of docker build
//	--- a/file 0640                        its mode is 0644 if none is given
//	its lines
//	--- a/link -> target
//	--- a/other = a/file                   a hard link
//	--- a/directory/ 0700
//	--- a/tool 0755 capability             it has file capabilities
//	--- a.tar.gz archive                   its entries: NAME MODE UID:GID [CAPABILITY] TEXT, and for links NAME -> TARGET
//
// REG stands for the registry, WEB for an HTTP server that serves the files of testdata/build/web.txt, and \r, \x and the like in lines of a file with the
// word "escaped" for what Go means by them.
type buildCase struct {
	name, args, stdin, api string
	cache, twice           bool
	files                  []contextFile
}

type contextFile struct {
	name, body, target string
	mode               os.FileMode
	hard, archive      bool
	capability         bool // it has file capabilities, in an xattr
}

// capability is CAP_NET_BIND_SERVICE, as setcap(8) writes it: revision 2, effective (linux/capability.h).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// contextTime is that of every file of a context.
var contextTime = time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)

// readCases reads the cases of a topic; their names begin with the topic's.
func readCases(t testing.TB, file string) (out []buildCase) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	topic := strings.TrimSuffix(filepath.Base(file), ".txt")
	_, text, _ := strings.Cut("\n"+string(b), "\n=== ")
	for block := range strings.SplitSeq(text, "\n=== ") {
		head, rest, _ := strings.Cut(block+"\n", "\n")
		c := buildCase{name: topic + "/" + strings.TrimSpace(head)}
		head, rest, _ = strings.Cut("\n"+rest, "\n--- ")
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "args":
				c.args = value
			case "cache":
				c.cache = true
			case "twice":
				c.twice, c.cache = true, true
			case "stdin":
				c.stdin = value
			case "api":
				c.api = value
			case "":
			default:
				t.Fatalf("%s: %s: unknown word %q", file, c.name, key)
			}
		}
		if rest != "" {
			for block := range strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n--- ") {
				c.files = append(c.files, readContextFile(t, block))
			}
		}
		out = append(out, c)
	}
	return out
}

func readContextFile(t testing.TB, block string) contextFile {
	t.Helper()
	head, body, _ := strings.Cut(block, "\n")
	f := contextFile{mode: 0o644, body: body}
	if body != "" && !strings.HasSuffix(body, "\n") {
		f.body += "\n"
	}
	var ok bool
	if f.name, f.target, ok = strings.Cut(head, " -> "); ok {
		return f
	}
	if f.name, f.target, f.hard = strings.Cut(head, " = "); f.hard {
		return f
	}
	words := strings.Fields(head)
	f.name = strings.ReplaceAll(words[0], "%20", " ")
	if strings.HasSuffix(f.name, "/") {
		f.mode = 0o755
	}
	for _, w := range words[1:] {
		switch {
		case w == "archive":
			f.archive = true
		case w == "capability":
			f.capability = true
		case w == "escaped":
			s, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(f.body, `"`, `\"`), "\n", `\n`) + `"`)
			if err != nil {
				t.Fatalf("%s: %v", head, err)
			}
			f.body = s
		default:
			n, err := strconv.ParseUint(w, 8, 32)
			if err != nil {
				t.Fatalf("%s: %v", head, err)
			}
			f.mode = modeOf(n)
		}
	}
	return f
}

// modeOf is an octal mode as Go has it.
func modeOf(n uint64) os.FileMode {
	m := os.FileMode(n & 0o777)
	for bit, mode := range map[uint64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if n&bit != 0 {
			m |= mode
		}
	}
	return m
}

// write makes the file in a directory; fill replaces the words that stand for what is known now.
func (f contextFile) write(dir string, fill func(string) string) error {
	path := filepath.Join(dir, f.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch {
	case f.hard:
		return os.Link(filepath.Join(dir, f.target), path)
	case f.target != "":
		return os.Symlink(f.target, path)
	case strings.HasSuffix(f.name, "/"):
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	default:
		body := []byte(fill(f.body))
		if f.archive {
			var err error
			if body, err = packed(f.name, string(body)); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, f.mode); err != nil || !f.capability {
		return err
	}
	return setCapability(path)
}

// writeContext makes a context of files, all of one time.
func writeContext(t testing.TB, files []contextFile, fill func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := f.write(dir, fill); err != nil {
			t.Fatal(err)
		}
	}
	if err := ageAll(dir, contextTime); err != nil {
		t.Fatal(err)
	}
	return dir
}

// packed makes the archive that the lines of text list, compressed as its name says.
func packed(name, text string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		h := &tar.Header{ModTime: contextTime, Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		var body string
		if from, to, ok := strings.Cut(line, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag, h.Mode = from, to, tar.TypeSymlink, 0o777
		} else {
			if _, err := fmt.Sscanf(line, "%s %o %d:%d", &h.Name, &h.Mode, &h.Uid, &h.Gid); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			if f := strings.SplitN(line, " ", 4); len(f) == 4 {
				if text, ok := strings.CutPrefix(f[3], "CAPABILITY "); ok {
					f[3], h.PAXRecords = text, map[string]string{"SCHILY.xattr.security.capability": capability}
				}
				body = strings.ReplaceAll(f[3], `\n`, "\n") + "\n"
			}
			if strings.HasSuffix(h.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compressed(name, buf.Bytes())
}

func compressed(name string, b []byte) ([]byte, error) {
	var program string
	switch filepath.Ext(name) {
	case ".gz", ".tgz":
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		if _, err := z.Write(b); err != nil {
			return nil, err
		}
		err := z.Close()
		return buf.Bytes(), err
	case ".xz":
		program = "xz"
	case ".bz2":
		program = "bzip2"
	default:
		return b, nil
	}
	cmd := exec.Command(program, "-c")
	cmd.Stdin = bytes.NewReader(b)
	return cmd.Output()
}

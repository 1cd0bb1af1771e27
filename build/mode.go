package build

import (
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// A chmod changes the permission bits of a file: COPY --chmod.
type chmod func(mode int64, dir bool) int64

// parseChmod reads octal digits, or symbolic modes as chmod(1) has them ("u=rwX,go-w"). "" is none.
func parseChmod(s string) (chmod, error) {
	if s == "" {
		return nil, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		return func(int64, bool) int64 { return int64(n) }, nil
	}
	var changes []chmod
	for clause := range strings.SplitSeq(s, ",") {
		c, err := parseClause(clause)
		if err != nil {
			return nil, errs.New(errs.Invalid, "invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777, or a symbolic mode", s)
		}
		changes = append(changes, c...)
	}
	return func(mode int64, dir bool) int64 {
		for _, c := range changes {
			mode = c(mode, dir)
		}
		return mode
	}, nil
}

var errClause = errs.New(errs.Invalid, "not a symbolic mode")

// parseClause reads WHO OP PERM [OP PERM …].
func parseClause(s string) (out []chmod, err error) {
	n := strings.IndexAny(s, "+-=")
	if n < 0 || strings.Trim(s[:n], "ugoa") != "" {
		return nil, errClause
	}
	who := int64(0)
	for _, c := range s[:n] {
		who |= map[rune]int64{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c]
	}
	if who == 0 {
		who = 0o7777
	}
	for s = s[n:]; s != ""; {
		op := s[0]
		end := strings.IndexAny(s[1:], "+-=") + 1
		if end == 0 {
			end = len(s)
		}
		c, err := change(who, op, s[1:end])
		if err != nil {
			return nil, err
		}
		out, s = append(out, c), s[end:]
	}
	return out, nil
}

// change is one operation. perm is of rwxXst, or one of u, g and o, whose bits are copied.
func change(who int64, op byte, perm string) (chmod, error) {
	bits := func(mode int64, dir bool) int64 {
		b := int64(0)
		for _, c := range perm {
			switch c {
			case 'r', 'w', 'x':
				b |= map[rune]int64{'r': 0o444, 'w': 0o222, 'x': 0o111}[c]
			case 'X':
				if dir || mode&0o111 != 0 {
					b |= 0o111
				}
			case 's':
				b |= 0o6000
			case 't':
				b |= 0o1000
			default: // u, g or o
				b |= mode >> map[rune]uint{'u': 6, 'g': 3, 'o': 0}[c] & 7 * 0o111
			}
		}
		return b & who
	}
	if strings.Trim(perm, "rwxXst") != "" && perm != "u" && perm != "g" && perm != "o" {
		return nil, errClause
	}
	return func(mode int64, dir bool) int64 {
		b := bits(mode, dir)
		switch op {
		case '+':
			return mode | b
		case '-':
			return mode &^ b
		}
		keep := int64(0)
		if dir { // setting a directory's bits leaves its special ones, as GNU chmod does
			keep = mode & 0o6000
		}
		return mode&^who&0o7777 | b | keep
	}, nil
}

package keeper

import (
	"os"
	"strconv"
	"strings"
)

// oomScore is as brigd's unit has it: without the keeper no name of any container answers until brigd starts it again.
const oomScore = -500

// Prefer makes the kernel end other processes before this one when memory is short.
func Prefer() error {
	const path = "/proc/self/oom_score_adj"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && now <= oomScore {
		return nil
	}
	return os.WriteFile(path, []byte(strconv.Itoa(oomScore)), 0o600)
}

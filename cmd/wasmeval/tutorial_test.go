//go:build tutorial

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is a block of commands of the tutorial, and what they must print; nil if the page does not say.
type step struct {
	line     int
	commands string
	expected []string
}

// steps reads the blocks "sh" of a page, each with the block "text" behind it.
func steps(t *testing.T, page string) (list []step) {
	t.Helper()
	kind := ""
	for n, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && kind == "":
			if kind = line[3:]; kind == "sh" {
				list = append(list, step{line: n + 1})
			}
		case line == "```":
			kind = ""
		case kind == "sh":
			list[len(list)-1].commands += line + "\n"
		case kind == "text":
			list[len(list)-1].expected = append(list[len(list)-1].expected, line)
		case kind != "":
			t.Fatalf("line %d is in a block of %q: expected sh or text", n+1, kind)
		}
	}
	return list
}

// pattern is the regular expression for lines in which … stands for anything, of any lines where it
// stands alone.
func pattern(lines []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for _, l := range lines {
		if l == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(l), "…", ".*") + `\n`)
	}
	return regexp.MustCompile(b.String() + `$`)
}

// A reader who types what the tutorial says, in its order, sees what it says.
func TestTutorial(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "TUTORIAL.md"))
	if err != nil {
		t.Fatal(err)
	}
	free, udp := freeAddress(t), freeAddress(t)
	shell := exec.Command("bash", "-eu", "-o", "pipefail")
	shell.Dir = filepath.Join("..", "..")
	shell.Env = append(os.Environ(), "HISTFILE=", "TMPDIR="+t.TempDir(), "WASMEVAL_HTTP="+free,
		"WASMEVAL_UDP="+udp, "WASMEVAL_SERVER=http://"+free)
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stderr = shell.Stdout
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(5*time.Minute, func() { _ = shell.Process.Kill() })
	defer end.Stop()
	out := bufio.NewReader(pipe)
	for _, s := range steps(t, string(page)) {
		const mark = "-- end of the step --"
		fmt.Fprintf(in, "%s\necho '%s'\n", strings.ReplaceAll(s.commands, "127.0.0.1:8080", free), mark)
		text, err := untilLine(out, mark)
		if err != nil {
			t.Fatalf("line %d of the tutorial: %v after\n%s", s.line, err, text)
		}
		t.Logf("%s\n%s", s.commands, text)
		if s.expected != nil && !pattern(s.expected).MatchString(text) {
			t.Errorf("line %d of the tutorial prints\n%s\nexpected\n%s", s.line, text,
				strings.Join(s.expected, "\n"))
		}
	}
	_ = in.Close()
	if err := shell.Wait(); err != nil {
		t.Errorf("the shell ended with %v", err)
	}
}

// untilLine reads up to the mark, which may stand behind what a command left without a newline.
func untilLine(out *bufio.Reader, mark string) (text string, err error) {
	for {
		line, err := out.ReadString('\n')
		before, found := strings.CutSuffix(line, mark+"\n")
		text += before
		if found {
			return text, nil
		}
		if err != nil {
			if err == io.EOF {
				err = fmt.Errorf("a command failed")
			}
			return text, err
		}
	}
}

// freeAddress is an address on loopback that the system chose, free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Command commitlog is the half of bench/commitlog.sh that is written in Go: it makes segments, and reads them as the
// agent does.
package main

import (
	"fmt"
	"os"
	"strconv"
)

const help = `usage:
  commitlog generate DIR inserts|updates FORM COUNT   COUNT segments of 32 MiB each, and schema.cql; FORM is plain, lz4, snappy, deflate, zstd, encrypted
  commitlog read DIR cells|unwanted WARMUP RUNS            read them so often; how long a pass takes
  commitlog follow DIR                                     read them once as one directory; the memory it took
  commitlog measure COMMAND...                             run a command without its output; the memory it took`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "commitlog:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 && args[0] == "measure" {
		return measure(args[1:])
	}
	var numbers []int // at the end of the arguments
	for len(args) > 0 {
		n, err := strconv.Atoi(args[len(args)-1])
		if err != nil {
			break
		}
		args, numbers = args[:len(args)-1], append([]int{n}, numbers...)
	}
	switch {
	case len(args) == 4 && args[0] == "generate" && len(numbers) == 1:
		return generate(args[1], args[2], args[3], numbers[0])
	case len(args) == 3 && args[0] == "read" && len(numbers) == 2:
		return read(args[1], args[2], numbers[0], numbers[1])
	case len(args) == 2 && args[0] == "follow" && len(numbers) == 0:
		return follow(args[1])
	}
	return fmt.Errorf("wrong arguments\n%s", help)
}

package main

import "cassdelta/internal/segment"

type segmentCmd = segment.Cmd

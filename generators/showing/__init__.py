"""What a person looks at: `pictures` (grids, films), `charts` (curves), `page` (one HTML file)."""

"""What a site can set, who we are, how we log: the ground floor, importing nothing of ours."""

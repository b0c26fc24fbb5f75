"""The page in a browser: worklist, study, queue, models, node. Server-rendered; reads what the rows say."""

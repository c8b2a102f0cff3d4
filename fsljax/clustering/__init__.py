"""k-means as compiled XLA programs."""

from fsljax.clustering.kmeans import KMeansResult, every_cluster, kmeans, kmeans_per_class

__all__ = ["KMeansResult", "every_cluster", "kmeans", "kmeans_per_class"]
